//! Exported rules beside vipnat, for processes outside the cgroup and beside translated sockets.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use vipnat_testkit::{Backend, outcome};

use crate::{
    cli::exported_rules::{BESIDE, Loader, clear, exported, load, outsider, ping, scene, succeeds},
    scene::{DB, PORT, ip, list},
    sockets::Sockets,
};

#[test]
fn processes_outside_the_cgroup_reach_vips_and_hear_the_vip() {
    let scene = scene(2);
    let table = scene.table(&list(0..2));
    scene.vipnat.apply(&table);
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        let mut sockets = outsider(&scene);
        for turn in 0..4_u8 {
            // The socket has a port that the kernel picks, or one below 1024, as NFS has.
            let port = [0, 1000][usize::from(turn) / 2];
            for kind in ["tcp", "udp"] {
                assert_eq!(sockets.call(&format!("socket {kind} {kind}4")), "0");
                assert_eq!(sockets.call(&format!("setsockopt {kind} SO_REUSEADDR 1")), "0");
                assert_eq!(sockets.call(&format!("bind {kind} 0.0.0.0:{port}")), "0");
            }
            assert_eq!(sockets.call(&format!("connect tcp {DB}:{PORT}")), "0", "{loader:?}");
            assert_eq!(sockets.call("getpeername tcp"), format!("{DB}:{PORT}"));
            assert!(sockets.call("recv tcp").ends_with("\\n\""), "{loader:?}");
            let answer = sockets.ask("udp", PORT);
            assert!(answer.ends_with(&format!("from {DB}:{PORT}")), "{loader:?}: {answer}");
            assert_eq!(sockets.call(&format!("connect udp {DB}:{PORT}")), "0");
            assert_eq!(sockets.call("send udp ?"), "1");
            let answer = sockets.call("recv udp");
            assert!(answer.starts_with('"'), "{loader:?}: {answer}");
            for kind in ["tcp", "udp"] {
                sockets.call(&format!("close {kind}"));
            }
            // Otherwise connection tracking would take another connection with this port for the old one.
            succeeds(scene.app.host.command("conntrack").arg("-F"), "");
        }
        clear(&scene, loader);
    }
    let clients = || scene.backends.iter().flat_map(Backend::clients);
    let ports: Vec<_> = clients().map(|client| client.port()).collect();
    assert_eq!(ports.len(), 4 * Loader::ALL.len());
    let is_ours = |port: &u16| (914..=952).contains(port) || *port >= 61_000;
    assert!(ports.iter().all(is_ours), "{ports:?}");
    assert_eq!(ports.iter().filter(|port| **port < 1024).count(), ports.len() / 2, "{ports:?}");
    let [first, second] = &scene.backends[..] else { panic!("two backends") };
    assert_eq!((first.datagrams(), second.connections()), (0, 0), "TCP and UDP take turns");
}

#[test]
fn connections_live_on_when_rules_of_another_table_are_loaded() {
    let scene = scene(2);
    let [old, new] = [0, 1].map(|number| scene.table(&list([number])));
    let others = [
        ("another backend", new.clone()),
        ("no backends", scene.table("[]")),
        ("another VIP", new.replace(".db]", ".cache]")),
    ];
    for loader in Loader::ALL {
        for (what, other) in &others {
            load(&scene, loader, &old);
            let mut sockets = outsider(&scene);
            for kind in ["tcp", "udp"] {
                sockets.call(&format!("socket {kind} {kind}4"));
                assert_eq!(sockets.call(&format!("connect {kind} {DB}:{PORT}")), "0");
            }
            assert_eq!(sockets.call("recv tcp"), "\"0\\n\"", "{loader:?}");
            for round in ["before", "after"] {
                assert_eq!(sockets.call("ask tcp"), "\"0\\n\"", "{loader:?}, {round} {what}");
                assert_eq!(sockets.call("send udp ?"), "1");
                assert_eq!(sockets.call("recv udp"), "\"0\"", "{loader:?}, {round} {what}");
                load(&scene, loader, other);
            }
            clear(&scene, loader);
            succeeds(scene.app.host.command("conntrack").arg("-F"), "");
        }
    }
}

#[test]
fn translations_of_others_inside_the_container_and_for_addresses_of_clouds_work_beside_these_rules()
{
    const CREDENTIALS: &str = "169.254.170.2";
    const DNS: &str = "127.0.0.11";
    let scene = scene(2);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let _agent = Backend::start(&scene.app.host, at(51_679), "agent");
    let dns = SocketAddrV4::new(DNS.parse().expect("an address"), 33_333);
    let _dns = Backend::start(&scene.app.host, dns, "dns");
    let mut others = String::new();
    for protocol in ["tcp", "udp"] {
        let output = format!("-A OUTPUT -p {protocol} -m {protocol}");
        others +=
            &format!("{output} -d {CREDENTIALS}/32 --dport 80 -j REDIRECT --to-ports 51679\n");
        others += &format!("{output} -d {DNS}/32 --dport 53 -j DNAT --to-destination {dns}\n");
        // This rule's packets leave the container.
        let elsewhere = format!("--dport 80 -j DNAT --to-destination {}:{PORT}", ip(1));
        others += &format!("{output} -d 169.254.169.254/32 {elsewhere}\n");
    }
    let others = format!("*nat\n{others}COMMIT\n");
    for loader in Loader::ALL {
        let theirs = if loader == Loader::Nft { Loader::NftIptables } else { loader };
        theirs.load(&scene, &others, &[]);
        let beside = if loader == Loader::Nft { &[][..] } else { &["--noflush"] };
        loader.load(&scene, &exported(&scene, loader, &table, BESIDE), beside);
        let to = [(CREDENTIALS, 80, "agent"), (DNS, 53, "dns"), ("169.254.169.254", 80, "1")];
        for (address, port, who) in to {
            for protocol in ["tcp", "udp"] {
                let report = scene.app.probe(&format!("{protocol} {address}:{port}"));
                assert!(report.ok, "{loader:?}, {protocol} {address}: {report:?}");
                assert_eq!(report.banner(), who, "{loader:?}, {protocol} {address}");
            }
        }
        assert_eq!(scene.who(), "0");
        assert!(ping(&scene, DB).status.success(), "{loader:?}");
        theirs.load(&scene, "*nat\nCOMMIT\n", &[]);
        if loader != theirs {
            succeeds(scene.app.host.command("nft").args(["delete", "table", "ip", "vipnat"]), "");
        } else {
            theirs.load(&scene, "*raw\nCOMMIT\n", &[]);
            theirs.load(&scene, "*filter\nCOMMIT\n", &[]);
        }
        succeeds(scene.app.host.command("conntrack").arg("-F"), "");
    }
}

#[test]
fn translated_sockets_work_with_the_ports_that_the_rules_give() {
    let scene = scene(1);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        for port in [61_000, 65_535, 914, 952] {
            let mut sockets = Sockets::of(&scene.app);
            for kind in ["tcp", "udp"] {
                sockets.call(&format!("socket {kind} {kind}4"));
                sockets.call(&format!("setsockopt {kind} SO_REUSEADDR 1"));
                assert_eq!(sockets.call(&format!("bind {kind} 0.0.0.0:{port}")), "0");
            }
            assert_eq!(sockets.call(&format!("connect tcp {DB}:{PORT}")), "0", "{loader:?}");
            assert_eq!(sockets.call("recv tcp"), "\"0\\n\"", "{loader:?} {port}");
            assert_eq!(sockets.call("ask tcp"), "\"0\\n\"", "{loader:?} {port}");
            assert_eq!(sockets.ask("udp", PORT), format!("\"0\" from {DB}:{PORT}"));
            let clients = scene.backends[0].clients();
            assert_eq!(clients.last().map(SocketAddr::port), Some(port), "{loader:?}");
            // The server waits for the end of the connection before the port can be used again.
            sockets.call("close tcp");
        }
        clear(&scene, loader);
        succeeds(scene.app.host.command("conntrack").arg("-F"), "");
    }
}

#[test]
fn a_backend_in_the_container_itself_is_reached() {
    let scene = scene(0);
    let app = Ipv4Addr::new(247, 221, 80, 10);
    for address in [app, Ipv4Addr::LOCALHOST] {
        let _inside = Backend::start(&scene.app.host, SocketAddrV4::new(address, PORT), "inside");
        let table = scene.table(&format!("[\"{address}\"]"));
        scene.vipnat.apply(&table);
        for loader in Loader::ALL {
            load(&scene, loader, &table);
            let mut sockets = outsider(&scene);
            sockets.call("socket tcp tcp4");
            assert_eq!(sockets.call(&format!("connect tcp {DB}:{PORT}")), "0", "{loader:?}");
            assert_eq!(sockets.call("recv tcp"), "\"inside\\n\"", "{loader:?}");
            sockets.call("socket udp udp4");
            let answer = sockets.ask("udp", PORT);
            assert_eq!(answer, format!("\"inside\" from {DB}:{PORT}"), "{loader:?}");
            assert_eq!(scene.who(), "inside", "{loader:?}");
            clear(&scene, loader);
        }
    }
}

#[test]
fn a_limited_relationship_is_limited_for_packets_too_and_a_backend_has_its_port() {
    let mut scene = scene(1);
    scene.add_backend(ip(0), 6432, "other port");
    let other_port = format!("[{{ ip = \"{}\", port = 6432 }}]", ip(0));
    let limited = scene.table_with(&other_port, "port = 5432\nprotocol = \"tcp\"");
    let unlimited = scene.table(&other_port);
    for loader in Loader::ALL {
        load(&scene, loader, &limited);
        let mut sockets = outsider(&scene);
        sockets.call("socket a tcp4");
        assert_eq!(sockets.call(&format!("connect a {DB}:{PORT}")), "0", "{loader:?}");
        assert_eq!(sockets.call("recv a"), "\"other port\\n\"", "{loader:?}");
        for rest in ["ask a", "close a", "socket b udp4"] {
            sockets.call(rest);
        }
        assert_eq!(sockets.call(&format!("sendto b ? {DB}:{PORT}")), "1");
        assert_eq!(sockets.call("recv b MSG_DONTWAIT"), "EAGAIN", "{loader:?}");
        let silent = outcome(scene.app.command("ping").args(["-c1", "-W1", DB]));
        assert!(!silent.status.success(), "{loader:?}: {silent}");

        load(&scene, loader, &unlimited);
        assert!(ping(&scene, DB).status.success(), "{loader:?}");
        // Connection tracking takes this datagram for the flow of the first socket, which keeps its backend.
        sockets.call("socket c udp4");
        let answer = sockets.ask("c", PORT);
        assert_eq!(answer, format!("\"other port\" from {DB}:{PORT}"), "{loader:?}");
        clear(&scene, loader);
        succeeds(scene.app.host.command("conntrack").arg("-F"), "");
    }
}

#[test]
fn the_name_that_the_option_had_before_still_works_and_both_say_what_they_cost() {
    let scene = scene(0);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    for format in ["iptables", "nft"] {
        let arguments = ["export", format, file.to_str().expect("UTF-8"), "--app", "shop"];
        let now = outcome(scene.vipnat.command(arguments).args(BESIDE));
        let before = outcome(scene.vipnat.command(arguments).arg("--only-other-protocols"));
        assert_eq!((now.code(), now.stderr.as_str()), (Some(0), ""), "{now}");
        assert_eq!((before.code(), &before.stdout), (Some(0), &now.stdout), "{before}");
        let header: Vec<_> = now.stdout.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(header.concat().contains("Other NAT and stateful rules"), "{header:?}");
        for new in ["is now --beside-vipnat", "source ports", "a port or protocol", "docs/rules.md"]
        {
            assert!(before.stderr.contains(new), "{new}: {before}");
        }
    }
}
