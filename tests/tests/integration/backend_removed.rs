//! What becomes of connections whose backend leaves the table: whose end, how, and whose don't.

use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use vipnat_tests::App;

use crate::{
    scene::{DB, PORT, Scene, ip, list, table},
    sockets::Sockets,
};

const KILL: &str = "on-backend-removed = \"kill\"";

/// A table of apps with a policy: name, cgroup, backends.
fn with_policy(apps: &[(&str, &str, &str)], policy: &str) -> String {
    let apps: Vec<_> =
        apps.iter().map(|(name, cgroup, list)| (*name, *cgroup, *list, "")).collect();
    table(&apps).replace("backends =", &format!("{policy}\nbackends ="))
}

/// The table of the scene's app, with a policy.
fn shop(scene: &Scene, backends: impl IntoIterator<Item = u8>, policy: &str) -> String {
    with_policy(&[("shop", scene.app.cgroup.relative(), &list(backends))], policy)
}

/// Opens a socket that must connect, and must be answered by this backend.
fn connect(sockets: &mut Sockets, name: &str, kind: &str, to: &str, backend: u8) {
    assert_eq!(sockets.call(&format!("socket {name} {kind}")), "0");
    assert_eq!(sockets.call(&format!("connect {name} {to}")), "0");
    // A TCP server says it once more, unasked.
    let question = if kind.starts_with("udp") { "ask" } else { "recv" };
    let answer = sockets.call(&format!("{question} {name}"));
    assert_eq!(answer.replace("\\n", ""), format!("\"{backend}\""), "{name}");
}

/// Whether a connected socket still works.
fn works(sockets: &mut Sockets, name: &str) -> bool {
    sockets.call(&format!("ask {name}")).starts_with('"')
}

/// The address of `db`, as an IPv4 socket names it and as an IPv6 socket does.
fn db() -> (String, String) {
    (format!("{DB}:{PORT}"), format!("[::ffff:{DB}]:{PORT}"))
}

#[test]
fn kill_ends_what_was_translated_to_the_backend_and_nothing_else() {
    let scene = Scene::new(2);
    let (v4, v6) = db();
    let other = App::new(scene.app.host.clone());
    let both = list([0, 1]);
    let apps = |shop| {
        let (first, second) = (scene.app.cgroup.relative(), other.cgroup.relative());
        with_policy(&[("shop", first, shop), ("blog", second, &both)], KILL)
    };
    scene.vipnat.apply(&apps(&both));
    let mut sockets = Sockets::of(&scene.app);
    for (name, kind, to) in
        [("t4", "tcp4", &v4), ("t6", "tcp6", &v6), ("u4", "udp4", &v4), ("u6", "udp6", &v6)]
    {
        // One to each backend, since they take turns.
        for backend in 0..2 {
            connect(&mut sockets, &format!("{name}-{backend}"), kind, to, backend);
        }
    }
    // Directly to the backend that leaves.
    connect(&mut sockets, "direct", "tcp4", &format!("{}:{PORT}", ip(0)), 0);
    connect(&mut sockets, "direct-udp", "udp4", &format!("{}:{PORT}", ip(0)), 0);
    // Not connected, with a flow.
    sockets.call("socket unconnected udp4");
    assert!(sockets.ask("unconnected", PORT).contains(DB));
    // A server of the app, and one that has moved on from the VIP.
    sockets.call("socket listening tcp4");
    sockets.call("bind listening 0.0.0.0:7000");
    sockets.call("listen listening");
    connect(&mut sockets, "moved-on", "udp4", &v4, 0);
    for to in ["unspec", &format!("{}:{PORT}", ip(0))] {
        assert_eq!(sockets.call(&format!("connect moved-on {to}")), "0");
    }
    // Another app on the same host, through the same VIP.
    let mut others = Sockets::of(&other);
    for (backend, name) in ["a", "b"].iter().enumerate() {
        connect(&mut others, name, "tcp4", &v4, backend as u8);
    }

    let printed = scene.vipnat.apply(&apps(&list([1])));
    let line = format!("x shop db {DB}: ended 4 connections to {}\n", ip(0));
    assert!(printed.ends_with(&line), "{printed}");
    assert_eq!(sockets.call("recv t4-0"), "ECONNABORTED");
    assert_eq!(sockets.call("recv t6-0"), "ECONNABORTED");
    assert_eq!(sockets.call("send t4-0 ?"), "EPIPE");
    for name in ["u4-0", "u6-0"] {
        assert_eq!(sockets.call(&format!("send {name} ?")), "ECONNABORTED");
        assert_eq!(sockets.call(&format!("send {name} ?")), "EDESTADDRREQ");
        assert_eq!(sockets.call(&format!("getpeername {name}")), "ENOTCONN");
    }
    for name in ["t4-1", "t6-1", "u4-1", "u6-1", "direct", "direct-udp", "moved-on"] {
        assert!(works(&mut sockets, name), "{name}");
    }
    assert_eq!(sockets.ask("unconnected", PORT), format!("\"1\" from {DB}:{PORT}"));
    assert_eq!(sockets.call("poll listening out"), "timeout");
    assert_eq!(sockets.call("SO_ERROR listening"), "0");
    for name in ["a", "b"] {
        assert!(works(&mut others, name));
    }
    // An ended UDP socket goes on through the VIP.
    assert_eq!(sockets.call(&format!("connect u4-0 {v4}")), "0");
    assert_eq!(sockets.call("ask u4-0"), "\"1\"");
}
