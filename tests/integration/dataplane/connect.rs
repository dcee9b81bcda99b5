//! One connection: the backend it reaches and the addresses the application sees.

use vipnat_testkit::Report;

use crate::scene::{DB, PORT, Scene, banner, ip, list};

#[track_caller]
fn reaches(report: &Report, name: &str, peer: &str) {
    assert!(report.ok, "{report:?}");
    assert_eq!((report.banner(), report.peer()), (name, peer), "{report:?}");
}

#[test]
fn tcp_over_ipv4_sees_the_vip() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    reaches(&scene.app.probe(&format!("tcp {DB}:{PORT}")), "0", &format!("{DB}:{PORT}"));
}

#[test]
fn tcp_over_a_mapped_address_sees_the_mapped_vip() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let report = scene.app.probe(&format!("tcp {DB}:{PORT} --mapped"));
    reaches(&report, "0", &format!("[::ffff:{DB}]:{PORT}"));
}

#[test]
fn connected_udp_sees_the_vip() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    reaches(&scene.app.probe(&format!("udp {DB}:{PORT}")), "0", &format!("{DB}:{PORT}"));
    let report = scene.app.probe(&format!("udp {DB}:{PORT} --mapped"));
    reaches(&report, "0", &format!("[::ffff:{DB}]:{PORT}"));
}

#[test]
fn nonblocking_connect_takes_one_turn() {
    let scene = Scene::new(2);
    scene.apply_first(2);
    for name in ["0", "1", "0"] {
        let report = scene.app.probe(&format!("nonblocking {DB}:{PORT}"));
        reaches(&report, name, &format!("{DB}:{PORT}"));
        assert!(report.attempts.len() >= 2, "calls connect again: {report:?}");
    }
}

#[test]
fn fastopen_is_translated_once() {
    let scene = Scene::new(2);
    scene.apply_first(2);
    // The second connect has a cookie of the first backend and none of the second. Both must work.
    for name in ["0", "1", "0", "1"] {
        let report = scene.app.probe(&format!("fastopen {DB}:{PORT}"));
        reaches(&report, name, &format!("{DB}:{PORT}"));
    }
}

#[test]
fn a_refused_connect_is_refused() {
    let scene = Scene::new(1);
    // No server listens on the second address, which the service host has.
    scene.service_host.add_address(ip(1));
    scene.vipnat.apply(&scene.table(&list([1, 0])));
    let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!(report.error(), "ECONNREFUSED", "{report:?}");
    // The backend that refused had its turn, as with iptables.
    assert_eq!(scene.who(), "0");
}

#[test]
fn a_vip_without_backends_is_unreachable_at_once() {
    let scene = Scene::new(1);
    scene.vipnat.apply(&scene.table("[]"));
    for probe in ["tcp", "udp", "nonblocking"] {
        let report = scene.app.probe(&format!("{probe} {DB}:{PORT}"));
        assert_eq!(report.call.as_deref(), Some("connect"), "{report:?}");
        assert_eq!(report.error(), "EHOSTUNREACH", "{report:?}");
    }
    let report = scene.app.probe(&format!("tcp {DB}:{PORT} --mapped"));
    assert_eq!(report.error(), "EHOSTUNREACH", "{report:?}");
    scene.apply_first(1);
    assert_eq!(scene.who(), "0");
}

#[test]
fn other_addresses_pass_untouched() {
    let mut scene = Scene::new(1);
    let other = std::net::Ipv4Addr::new(247, 221, 82, 1);
    scene.add_backend(other, PORT, "other");
    scene.apply_first(1);
    reaches(&scene.app.probe(&format!("tcp {other}:{PORT}")), "other", &format!("{other}:{PORT}"));
    let report = scene.app.probe(&format!("tcp {other}:{PORT} --mapped"));
    reaches(&report, "other", &format!("[::ffff:{other}]:{PORT}"));
    // For a direct connection, the socket shows the backend.
    let direct = ip(0);
    reaches(&scene.app.probe(&format!("tcp {direct}:{PORT}")), "0", &format!("{direct}:{PORT}"));
    // Another address of the range, which is no VIP, has no route, as without vipnat.
    let report = scene.app.probe(&format!("tcp 169.254.1.1:{PORT}"));
    assert_eq!(report.error(), "ENETUNREACH", "{report:?}");
}

#[test]
fn the_port_is_kept_unless_the_backend_names_one() {
    let mut scene = Scene::new(0);
    scene.add_backend(ip(0), 5432, "kept");
    scene.add_backend(ip(0), 5433, "kept too");
    scene.add_backend(ip(1), 6380, "named");
    scene.vipnat.apply(&scene.table(&format!(
        "[\"{}\", {{ ip = \"{}\", port = 6380 }}]",
        ip(0),
        ip(1)
    )));
    for (port, name) in [(5432, "kept"), (5432, "named"), (5433, "kept too"), (5433, "named")] {
        let report = scene.app.probe(&format!("tcp {DB}:{port}"));
        reaches(&report, name, &format!("{DB}:{port}"));
    }
}

#[test]
fn a_relationship_can_be_limited_to_a_port_and_protocol() {
    // The limit, and whether TCP 5432, TCP 5433, UDP 5432 and UDP 5433 are translated.
    for (limit, translated) in [
        ("port = 5432", [true, false, true, false]),
        ("protocol = \"udp\"", [false, false, true, true]),
        ("protocol = \"tcp\"", [true, true, false, false]),
        ("port = 5433\nprotocol = \"tcp\"", [false, true, false, false]),
    ] {
        let mut scene = Scene::new(1);
        scene.add_backend(ip(0), 5433, "0");
        scene.vipnat.apply(&scene.table_with(&list([0]), limit));
        let asked = [("tcp", 5432), ("tcp", 5433), ("udp", 5432), ("udp", 5433)];
        for ((probe, port), translated) in asked.into_iter().zip(translated) {
            let report = scene.app.probe(&format!("{probe} {DB}:{port}"));
            if translated {
                reaches(&report, "0", &format!("{DB}:{port}"));
            } else {
                assert_eq!(report.error(), "ENETUNREACH", "{limit}: {probe} {port}: {report:?}");
            }
        }
    }
}

#[test]
fn getpeername_after_a_second_connect_elsewhere_shows_the_new_peer() {
    let mut scene = Scene::new(1);
    let other = std::net::Ipv4Addr::new(247, 221, 82, 1);
    scene.add_backend(other, PORT, "other");
    scene.apply_first(1);
    let vip = format!("{DB}:{PORT}");
    let direct = format!("{}:{PORT}", ip(0));
    let elsewhere = format!("{other}:{PORT}");
    for how in ["--udp", "--udp --unspec", "--unspec"] {
        // Reconnect to another address, to the backend itself, and to the VIP again.
        for (second, name) in [(&elsewhere, "other"), (&direct, "0"), (&vip, "0")] {
            let reports = scene.app.probes(&format!("reconnect {vip} {second} {how}"));
            let [first, .., then] = reports.as_slice() else { panic!("{reports:?}") };
            reaches(first, "0", &vip);
            reaches(then, name, second);
        }
        let reports = scene.app.probes(&format!("reconnect {direct} {vip} {how}"));
        let [first, .., then] = reports.as_slice() else { panic!("{reports:?}") };
        reaches(first, "0", &direct);
        reaches(then, "0", &vip);
    }
}

#[test]
fn a_connect_after_a_failed_one_is_translated_again() {
    let scene = Scene::new(1);
    scene.service_host.add_address(ip(1));
    scene.vipnat.apply(&scene.table(&list([1, 0])));
    let vip = format!("{DB}:{PORT}");
    let reports = scene.app.probes(&format!("reconnect {vip} {vip}"));
    assert_eq!(reports[0].error(), "ECONNREFUSED", "{reports:?}");
    reaches(&reports[1], "0", &vip);
}

#[test]
fn an_accepted_connection_shows_its_real_peer() {
    // getpeername hooks run inside accept too. If the app's own database host connects to a server of the
    // app, the server must see that host.
    use std::io::{BufRead as _, BufReader};

    use vipnat_testkit::program;

    let scene = Scene::new(1);
    scene.apply_first(1);
    assert_eq!(scene.who(), "0");
    let mut server = scene
        .app
        .command(program("probe"))
        .args(["accept", "247.221.80.10:8080"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("247.221.80.10:8080"));
    let client =
        scene.service_host.run(|| std::net::TcpStream::connect("247.221.80.10:8080").unwrap());
    let local = client.local_addr().unwrap().to_string();
    drop(client);
    let report = Report::parse(&lines.next().unwrap().unwrap());
    assert!(server.wait().unwrap().success());
    assert_eq!(report.accepted.as_deref(), Some(local.as_str()), "{report:?}");
    assert_eq!(report.peer(), local, "{report:?}");
}

#[test]
fn a_session_stays_where_it_is_when_the_table_changes() {
    let scene = Scene::new(2);
    scene.apply_first(1);
    let mut client = scene.app.hold(&format!("{DB}:{PORT}"));
    reaches(&client.connected, "0", &format!("{DB}:{PORT}"));
    scene.vipnat.apply(&scene.table(&list([1])));
    assert_eq!(scene.who(), "1");
    reaches(&client.ask(), "0", &format!("{DB}:{PORT}"));
    client.close();
    assert_eq!(banner(&scene.app.probe(&format!("tcp {DB}:{PORT}"))), "1");
}
