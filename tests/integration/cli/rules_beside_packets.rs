//! Exported rules beside vipnat, for packets that no hook sees: ICMP, raw sockets, other protocols, tunnels.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use vipnat_testkit::{NetNs, Outcome, left_out, outcome, patient};

use crate::{
    cli::exported_rules::{
        BESIDE, Loader, clear, exported, load, outsider, ping, scene, succeeds, tracked,
    },
    scene::{DB, PORT, Scene, banner, ip, list},
};

/// The first hop to `db` that `traceroute` shows, without its name and times.
fn first_hop(scene: &Scene, options: &[&str]) -> String {
    let mut command = scene.app.command("traceroute");
    command.args(["-n", "-q1", "-w2", "-m1"]).args(options).arg(DB);
    let shown = succeeds(&mut command, "").stdout;
    let hop = shown.lines().nth(1).unwrap_or_else(|| panic!("no hop: {shown}"));
    hop.split_whitespace().nth(1).expect("who the hop is").to_owned()
}

#[test]
fn ping_works_beside_vipnat_while_translated_connections_are_not_tracked() {
    let scene = scene(2);
    let host = &scene.app.host;
    let table = scene.table(&list(0..2));
    scene.vipnat.apply(&table);
    let from_db = |ping: &Outcome| ping.stdout.contains(&format!("from {DB}"));
    let mut silent = scene.app.command("ping");
    let unanswered = outcome(silent.args(["-c1", "-W1", DB]));
    assert!(!unanswered.status.success(), "without rules: {unanswered}");
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        assert!(from_db(&ping(&scene, DB)), "{loader:?}");
        // Pings take turns of their own. This one uses a ping socket, as on machines that allow them.
        let ping_sockets = "/proc/sys/net/ipv4/ping_group_range";
        host.run(|| fs::write(ping_sockets, "0 0").expect("allow ping sockets"));
        assert!(from_db(&ping(&scene, DB)), "{loader:?}");
        host.run(|| fs::write(ping_sockets, "1 0").expect("forbid ping sockets"));
        for number in 0..2 {
            let icmp = tracked(host, "icmp");
            assert!(icmp.contains(&format!("src={}", ip(number))), "{loader:?}: {icmp}");
        }
        let before = scene.who();
        banner(&scene.app.probe(&format!("udp {DB}:{PORT}")));
        assert_ne!(before, scene.who(), "{loader:?}: vipnat gives the turns");
        // Connections without a VIP are not tracked either.
        banner(&scene.app.probe(&format!("tcp {}:{PORT}", ip(0))));
        for protocol in ["tcp", "udp"] {
            assert_eq!(tracked(host, protocol), "", "{loader:?}");
        }
        // Without the rules that stop tracking, the connections are tracked.
        let rules = exported(&scene, loader, &table, BESIDE);
        let without = |line: &&str| !line.contains("notrack");
        let tracking: String =
            rules.lines().filter(without).map(|line| format!("{line}\n")).collect();
        loader.load(&scene, &tracking, &[]);
        scene.who();
        assert_ne!(tracked(host, "tcp"), "", "{loader:?}");
        clear(&scene, loader);
        succeeds(host.command("conntrack").arg("-F"), "");
    }
}

#[test]
fn a_vxlan_device_reaches_the_vip_that_is_its_remote() {
    let scene = scene(1);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    let link = "link add vxlan0 type vxlan id 7 dstport 4789";
    let up = "link set vxlan0 up\naddress add";
    let here = format!("{link} remote {DB}");
    if !outcome(scene.app.host.command("ip").args(here.split(' '))).status.success() {
        left_out("VXLAN, which this kernel does not have");
        return;
    }
    scene.app.host.ip(&format!("{up} 10.9.0.1/24 dev vxlan0"));
    let (app, local) = (Ipv4Addr::new(247, 221, 80, 10), ip(0));
    let there = format!("{link} remote {app} local {local}\n{up} 10.9.0.2/24 dev vxlan0");
    scene.service_host.ip(&there);
    let alone = outcome(scene.app.command("ping").args(["-c1", "-W1", "10.9.0.2"]));
    assert!(!alone.status.success(), "no hook reaches it: {alone}");
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        // The device learns the address of the other end from the first packet, and then needs no rule.
        scene.app.host.ip("link set vxlan0 down\nlink set vxlan0 up");
        let answered = ping(&scene, "10.9.0.2");
        assert!(answered.status.success(), "{loader:?}: {answered}");
        clear(&scene, loader);
    }
}

#[test]
fn raw_tcp_and_udp_reach_vips() {
    let scene = scene(1);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    let tcp = ["-T", "-p", "5432"];
    assert_eq!(first_hop(&scene, &tcp), "*");
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        assert_eq!(first_hop(&scene, &tcp), DB, "{loader:?}");
        let answer = raw_udp(&scene.app.host, DB.parse().expect("an address"));
        assert_eq!(answer, format!("0 from {DB}"), "{loader:?}");
        clear(&scene, loader);
    }
}

/// Sends a UDP datagram to port 5432 of an address, with a handmade UDP header. Returns the answer.
fn raw_udp(host: &NetNs, to: Ipv4Addr) -> String {
    const PORT_HERE: u16 = 40_404;
    host.run(|| {
        // While this socket exists, the kernel does not refuse the answer.
        let _bound = std::net::UdpSocket::bind(("0.0.0.0", PORT_HERE)).expect("bind");
        let socket =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("a raw socket");
        // The header: ports, length, no checksum.
        let header = [PORT_HERE, PORT, 9, 0].map(u16::to_be_bytes).concat();
        exchange(&socket, &[&header[..], b"?"].concat(), to, 28)
    })
}

/// Sends data, and receives the answer from a raw socket. `headers` is the number of bytes before its data.
fn exchange(socket: &Socket, data: &[u8], to: Ipv4Addr, headers: usize) -> String {
    socket.set_read_timeout(Some(patient(Duration::from_secs(3)))).expect("set a timeout");
    socket.send_to(data, &SocketAddr::from((to, 0)).into()).expect("send");
    let mut packet = [0; 256];
    let mut reader = socket;
    let size = reader.read(&mut packet).expect("receive an answer");
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).expect("four bytes"));
    format!("{} from {from}", String::from_utf8_lossy(&packet[headers..size]))
}

#[test]
fn protocols_that_have_no_hooks_reach_vips() {
    let scene = scene(1);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    // This protocol number is for experiments.
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(253)));
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        let server = scene.service_host.run(raw).expect("a raw socket");
        server.bind(&SocketAddr::from((ip(0), 0)).into()).expect("bind");
        let answer = std::thread::spawn(move || {
            let (mut packet, mut reader) = ([0; 256], &server);
            let size = reader.read(&mut packet).expect("receive");
            let from = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).expect("four bytes"));
            server.send_to(&packet[20..size], &SocketAddr::from((from, 0)).into()).expect("answer");
        });
        let client = scene.app.host.run(raw).expect("a raw socket");
        let to = DB.parse().expect("an address");
        assert_eq!(exchange(&client, b"hello", to, 20), format!("hello from {DB}"), "{loader:?}");
        answer.join().expect("the server answers");
        clear(&scene, loader);
    }
    let sctp = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(libc::IPPROTO_SCTP)));
    let Ok(server) = scene.service_host.run(sctp) else {
        left_out("SCTP, which this kernel does not have");
        return;
    };
    server.bind(&SocketAddr::from((ip(0), PORT)).into()).expect("bind");
    server.listen(4).expect("listen");
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        let client = scene.app.host.run(sctp).expect("an SCTP socket");
        let to = SocketAddrV4::new(DB.parse().expect("an address"), PORT).into();
        let connected = client.connect_timeout(&to, patient(Duration::from_secs(3)));
        assert!(connected.is_ok(), "{loader:?}: {connected:?}");
        clear(&scene, loader);
    }
}

#[test]
fn a_vip_without_backends_refuses_packets_of_any_kind() {
    let scene = scene(1);
    let table = scene.table("[]");
    scene.vipnat.apply(&table);
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        // Do not run this as the app: ping connects a UDP socket first, and vipnat refuses that.
        let refused = outcome(scene.app.host.command("ping").args(["-c1", "-W5", DB]));
        assert!(refused.stderr.contains("Operation not permitted"), "{loader:?}: {refused}");
        let mut sockets = outsider(&scene);
        sockets.call("socket udp udp4");
        assert_eq!(sockets.call(&format!("sendto udp ? {DB}:{PORT}")), "EPERM", "{loader:?}");
        let translated = scene.app.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!(translated.error(), "EHOSTUNREACH", "{loader:?}");
        clear(&scene, loader);
    }
}

#[test]
fn wireguard_reaches_a_peer_whose_endpoint_is_a_vip() {
    let scene = scene(1);
    let link = "link add wg0 type wireguard";
    let host = &scene.app.host;
    if !outcome(host.command("ip").args(link.split(' '))).status.success() {
        left_out("WireGuard, which this kernel does not have");
        return;
    }
    scene.service_host.ip(link);
    let table = scene.table(&list([0]));
    scene.vipnat.apply(&table);
    let [here, there] = [(); 2].map(|()| key(host, "genkey", ""));
    let [here_public, there_public] = [&here, &there].map(|private| key(host, "pubkey", private));
    let set = |host: &NetNs, private: &str, peer: &str, more: &[&str], address: &str| {
        let mut wg = host.command("sh");
        let script = "private=$1; shift; echo $private | wg set wg0 private-key /dev/stdin \"$@\"";
        wg.args(["-c", script, "sh", private, "listen-port", "51820", "peer", peer]);
        succeeds(wg.args(["allowed-ips", "10.9.0.0/24"]).args(more), "");
        host.ip(&format!("address add {address}/24 dev wg0\nlink set wg0 up"));
    };
    set(&scene.service_host, &there, &here_public, &[], "10.9.0.2");
    set(host, &here, &there_public, &["endpoint", &format!("{DB}:51820")], "10.9.0.1");
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        let answered = outcome(scene.app.command("ping").args(["-c3", "-W5", "10.9.0.2"]));
        assert!(answered.status.success(), "{loader:?}: {answered}");
        let endpoint = succeeds(host.command("wg").args(["show", "wg0", "endpoints"]), "").stdout;
        assert!(endpoint.contains(&format!("{DB}:51820")), "{loader:?}: {endpoint}");
        clear(&scene, loader);
    }
}

/// The output of `wg genkey` or `wg pubkey`.
fn key(host: &NetNs, verb: &str, input: &str) -> String {
    let mut command = host.command("wg");
    command.arg(verb).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut wg = command.spawn().expect("start wg (package wireguard-tools)");
    wg.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("write to wg");
    let output = wg.wait_with_output().expect("wait for wg");
    String::from_utf8(output.stdout).expect("a key is text").trim().to_owned()
}
