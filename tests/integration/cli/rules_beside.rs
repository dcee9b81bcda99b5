//! Exported rules beside vipnat: they translate what no hook reaches, and leave alone what vipnat translated.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use vipnat_testkit::{Backend, NetNs, Outcome, left_out, outcome, patient, program};

use crate::{
    cli::exported_rules::{BESIDE, Loader, clear, exported, scene, succeeds, tracked},
    scene::{DB, PORT, Scene, banner, ip, list},
    sockets::Sockets,
};

/// Loads the rules of a table beside vipnat.
fn load(scene: &Scene, loader: Loader, table: &str) {
    loader.load(scene, &exported(scene, loader, table, BESIDE), &[]);
}

/// A client in the app's network namespace, but not in its cgroup: no hook runs for it.
fn outsider(scene: &Scene) -> Sockets {
    Sockets::start(scene.app.host.command(program("sockets")))
}

fn ping(scene: &Scene, address: &str) -> Outcome {
    outcome(scene.app.command("ping").args(["-c1", "-W5", address]))
}

/// The first hop that `traceroute` shows on the way to `db`, without a name and times.
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
        // Which takes turns of its own. This time with a ping socket, as where anybody may have one.
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
        // Nor is what has nothing to do with VIPs.
        banner(&scene.app.probe(&format!("tcp {}:{PORT}", ip(0))));
        for protocol in ["tcp", "udp"] {
            assert_eq!(tracked(host, protocol), "", "{loader:?}");
        }
        // It is the rules for untracked packets that do this.
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
        // The device learns where the other one is from the first packet, and needs no rule after it.
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

/// Sends a UDP datagram to port 5432 of an address, all but its IP header made by hand; what comes back.
fn raw_udp(host: &NetNs, to: Ipv4Addr) -> String {
    const PORT_HERE: u16 = 40_404;
    host.run(|| {
        // While it exists the kernel does not refuse what comes.
        let _bound = std::net::UdpSocket::bind(("0.0.0.0", PORT_HERE)).expect("bind");
        let socket =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("a raw socket");
        // Ports, length, no checksum.
        let header = [PORT_HERE, PORT, 9, 0].map(u16::to_be_bytes).concat();
        exchange(&socket, &[&header[..], b"?"].concat(), to, 28)
    })
}

/// Sends, and receives what comes from a raw socket, but for so many bytes of headers.
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
    // One for experiments.
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
fn processes_outside_the_cgroup_reach_vips_and_hear_the_vip() {
    let scene = scene(2);
    let table = scene.table(&list(0..2));
    scene.vipnat.apply(&table);
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        let mut sockets = outsider(&scene);
        for turn in 0..4_u8 {
            // With a port of the kernel's choice, and with one below 1024, as NFS has.
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
            // Another connection of the same port would still be the old one to connection tracking.
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
        // And one that leaves the container.
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
            // The server waits for the end of the connection before its port can be had again.
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
fn a_vip_without_backends_refuses_packets_of_any_kind() {
    let scene = scene(1);
    let table = scene.table("[]");
    scene.vipnat.apply(&table);
    for loader in Loader::ALL {
        load(&scene, loader, &table);
        // Not as the app: ping connects a UDP socket first, and vipnat refuses that.
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
        // To connection tracking the flow of the first socket goes on as it was.
        sockets.call("socket c udp4");
        let answer = sockets.ask("c", PORT);
        assert_eq!(answer, format!("\"other port\" from {DB}:{PORT}"), "{loader:?}");
        clear(&scene, loader);
        succeeds(scene.app.host.command("conntrack").arg("-F"), "");
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

/// What `wg genkey` or `wg pubkey` prints.
fn key(host: &NetNs, verb: &str, input: &str) -> String {
    let mut command = host.command("wg");
    command.arg(verb).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut wg = command.spawn().expect("start wg (package wireguard-tools)");
    wg.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("write to wg");
    let output = wg.wait_with_output().expect("wait for wg");
    String::from_utf8(output.stdout).expect("a key is text").trim().to_owned()
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
        assert!(header.concat().contains("NAT and stateful rules of others"), "{header:?}");
        for new in ["is now --beside-vipnat", "source ports", "a port or protocol", "docs/rules.md"]
        {
            assert!(before.stderr.contains(new), "{new}: {before}");
        }
    }
}
