//! UDP flows, where vipnat has no counterpart in iptables. The `conformance` crate compares the rest.

use std::{fs, path::Path};

use serde_json::Value;
use vipnat_testkit::{App, bpf::Refusal};

use crate::{
    scene::{DB, Scene, list, table},
    sockets::Sockets,
};

/// The answer of a backend, with the source that the application should see.
fn from_db(name: u8) -> String {
    format!("\"{name}\" from {DB}:5432")
}

fn listing(scene: &Scene) -> Value {
    serde_json::from_str(&scene.vipnat.ok(["list", "--json"])).unwrap()
}

fn counter(scene: &Scene, name: &str) -> u64 {
    let listing = listing(scene);
    let counter = listing["counters"].get(name).unwrap_or(&listing[name]);
    counter.as_u64().unwrap()
}

#[test]
fn a_flow_takes_one_turn_however_many_datagrams_it_has() {
    let scene = Scene::new(3);
    scene.apply_first(3);
    let mut sockets = Sockets::of(&scene.app);
    for name in 0..3 {
        sockets.call(&format!("socket s{name} udp4"));
        for _ in 0..3 {
            assert_eq!(sockets.ask(&format!("s{name}"), 5432), from_db(name));
        }
    }
    assert_eq!(listing(&scene)["apps"][0]["relationships"][0]["connections"], 3);
    assert_eq!(counter(&scene, "redirected"), 3);
}

#[test]
fn a_socket_with_too_many_flows_ends_the_one_longest_unused_and_counts_it() {
    let scene = Scene::new(2);
    scene.apply_first(2);
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    // The first datagram takes the first turn. The others only fill the socket.
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    for port in 1..16 {
        assert_eq!(sockets.call(&format!("sendto a ? {DB}:{port}")), "1");
    }
    assert_eq!(counter(&scene, "evicted"), 0);
    // The flow is still there, and is from now on not the one that was unused longest.
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    for port in [16, 17] {
        assert_eq!(sockets.call(&format!("sendto a ? {DB}:{port}")), "1");
    }
    assert_eq!(counter(&scene, "evicted"), 2);
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    assert_eq!(counter(&scene, "redirected"), 18);
}

#[test]
fn a_flow_stays_while_the_table_has_its_backend_and_then_moves() {
    let scene = Scene::new(4);
    scene.apply_first(2);
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    sockets.call("socket b udp4");
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    assert_eq!(sockets.ask("b", 5432), from_db(1));
    // These are other lists, in which the backend of `b` has another place.
    for backends in [&[1, 2, 3][..], &[3, 1], &[1], &[0, 1, 2]] {
        scene.vipnat.apply(&scene.table(&list(backends.iter().copied())));
        assert_eq!(sockets.ask("b", 5432), from_db(1), "{backends:?}");
    }
    scene.vipnat.apply(&scene.table(&list([3])));
    assert_eq!(sockets.ask("b", 5432), from_db(3));
    scene.vipnat.apply(&scene.table("[]"));
    assert_eq!(sockets.call(&format!("sendto b ? {DB}:5432")), "EHOSTUNREACH");
    assert_eq!(counter(&scene, "unreachable"), 1);
    scene.apply_first(1);
    assert_eq!(sockets.ask("b", 5432), from_db(0));
}

/// A connected socket receives answers only from its peer.
#[test]
fn a_connected_socket_that_names_the_vip_goes_on_where_it_is_connected_to() {
    let scene = Scene::new(2);
    scene.apply_first(1);
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    sockets.call(&format!("connect a {DB}:5432"));
    scene.vipnat.apply(&scene.table(&list([1])));
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    assert_eq!(sockets.call("ask a"), "\"0\"");
    // Only a socket that has left its peer goes where the table leads.
    sockets.call("connect a unspec");
    assert_eq!(sockets.ask("a", 5432), from_db(1));
}

/// For each datagram of a connected AF_INET6 socket, the hook sees the peer, as if the call had named it.
#[test]
fn what_a_mapped_socket_sends_to_its_peer_hides_nothing() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp6");
    assert_eq!(sockets.call("bind a [::ffff:247.221.80.10]:4000"), "0");
    assert_eq!(sockets.call(&format!("connect a [::ffff:{DB}]:5432")), "0");
    assert_eq!(sockets.call("send a ?"), "1");
    assert_eq!(sockets.call("connect a unspec"), "0");
    assert_eq!(sockets.call("recvfrom a"), format!("\"0\" from [::ffff:{DB}]:5432"));
}

#[test]
fn a_failed_connect_to_an_ipv6_address_leaves_the_peer_as_it_was() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp6");
    sockets.call(&format!("connect a [::ffff:{DB}]:5432"));
    assert_eq!(sockets.call("connect a [2001:db8::1]:5432"), "ENETUNREACH");
    assert_eq!(sockets.call("getpeername a"), format!("[::ffff:{DB}]:5432"));
}

/// The refused connect has replaced the record. Its copy is a flow, which the 17 other flows push out.
#[test]
fn a_peer_outlives_a_refused_connect_and_seventeen_other_flows() {
    let scene = Scene::new(2);
    let cache = "[services.cache]\nbackends = [\"247.221.81.1\"]\n\
                 [apps.shop.relationships.cache]\nservice = \"cache\"\n";
    scene.vipnat.apply(&(scene.table(&list([0])) + cache));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    assert_eq!(sockets.call(&format!("connect a {DB}:5432")), "0");
    let refusal = Refusal::attach(scene.app.cgroup.path(), &["connect4"]).unwrap();
    assert_eq!(sockets.call("connect a 169.254.206.224:5432"), "EPERM");
    drop(refusal);
    for port in 1..=17 {
        assert_eq!(sockets.call(&format!("sendto a ? 169.254.206.224:{port}")), "1");
    }
    assert_eq!(sockets.call("getpeername a"), format!("{DB}:5432"));
    assert_eq!(sockets.call("send a ?"), "1");
    assert_eq!(sockets.call("recvfrom a"), from_db(0));
}

/// vipnat finds connections by their records, and the refused connect has replaced that of the peer.
#[test]
fn a_socket_that_was_refused_elsewhere_and_has_heard_its_peer_since_is_ended_with_it() {
    let scene = Scene::new(2);
    let kill = |backends| {
        let table = scene.table(&list(backends));
        table.replacen("backends", "on-backend-removed = \"kill\"\nbackends", 1)
    };
    scene.vipnat.apply(&kill([0]));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    assert_eq!(sockets.call(&format!("connect a {DB}:5432")), "0");
    let refusal = Refusal::attach(scene.app.cgroup.path(), &["connect4"]).unwrap();
    assert_eq!(sockets.call("connect a 247.221.81.1:5432"), "EPERM");
    drop(refusal);
    assert_eq!(sockets.call("send a ?"), "1");
    assert_eq!(sockets.call("recvfrom a"), from_db(0));
    let printed = scene.vipnat.apply(&kill([1]));
    assert!(printed.contains("ended 1 connection"), "{printed}");
}

#[test]
fn a_flow_of_a_strict_service_stays_where_it_is() {
    let scene = Scene::new(2);
    let strict = |backends: &str| {
        let table = scene.table(backends);
        table.replacen("backends", "udp-pinning = \"strict\"\nbackends", 1)
    };
    scene.vipnat.apply(&strict(&list([0])));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    let moved = scene.vipnat.apply(&strict(&list([1])));
    assert!(moved.contains("(udp strict)"), "{moved}");
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    scene.vipnat.apply(&strict("[]"));
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    // New flows go where the table leads.
    sockets.call("socket b udp4");
    assert_eq!(sockets.call(&format!("sendto b ? {DB}:5432")), "EHOSTUNREACH");
}

#[test]
fn two_apps_with_one_vip_have_their_own_flows() {
    let scene = Scene::new(2);
    let other = App::new(scene.app.host.clone());
    scene.vipnat.apply(&table(&[
        ("shop", scene.app.cgroup.relative(), &list([0]), ""),
        ("blog", other.cgroup.relative(), &list([1]), ""),
    ]));
    for (app, name) in [(&scene.app, 0), (&other, 1)] {
        let mut sockets = Sockets::of(app);
        sockets.call("socket a udp4");
        assert_eq!(sockets.ask("a", 5432), from_db(name));
    }
}

/// The outer app's hook runs after the inner one's, and sees the backend in place of the VIP.
#[test]
fn a_flow_of_an_app_inside_an_app_is_shown_by_its_own_vip() {
    let scene = Scene::new(2);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("inner") };
    let outer_table = table(&[
        ("shop", scene.app.cgroup.relative(), &list([0]), ""),
        ("inner", inner.cgroup.relative(), &list([1]), ""),
    ]);
    let outer_table = outer_table.replacen("relationships.db", "relationships.cache", 1);
    scene.vipnat.apply(&outer_table);
    let mut sockets = Sockets::of(&inner);
    sockets.call("socket a udp4");
    for _ in 0..2 {
        assert_eq!(sockets.ask("a", 5432), from_db(1));
        // This is the VIP of the outer app.
        assert_eq!(sockets.call("sendto a ? 169.254.206.224:5432"), "1");
        assert_eq!(sockets.call("recvfrom a"), "\"0\" from 169.254.206.224:5432");
    }
}

/// The next app once got the same app id, and its hooks took the old flow for their own.
#[test]
fn a_strict_flow_of_an_app_that_is_gone_is_not_the_next_apps() {
    let scene = Scene::new(2);
    let cgroup = scene.app.cgroup.relative();
    let strict = table(&[("shop", cgroup, &list([0]), "")]);
    scene.vipnat.apply(&strict.replacen("backends", "udp-pinning = \"strict\"\nbackends", 1));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    assert_eq!(sockets.ask("a", 5432), from_db(0));
    scene.vipnat.ok(["flush", "--app", "shop"]);
    scene.vipnat.apply(&table(&[("blog", cgroup, &list([1]), "")]));
    assert_eq!(sockets.ask("a", 5432), from_db(1));
}

/// `getaddrinfo` probes a limited VIP.
#[test]
fn a_udp_connect_to_port_0_of_a_limited_vip_is_not_translated() {
    let scene = Scene::new(1);
    scene.vipnat.apply(&scene.table_with(&list([0]), "port = 5432"));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    // The error is that of an address without a route.
    assert_eq!(sockets.call(&format!("connect a {DB}:0")), "ENETUNREACH");
}

/// The kernel has no memory for the records and flows of a socket: `net.core.optmem_max`.
#[test]
fn without_memory_for_its_flows_a_socket_still_reaches_the_backend() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    // Some kernels have a limit for each network namespace, and others have one for the machine: this one.
    let limit = "/proc/sys/net/core/optmem_max";
    scene.app.host.run(|| {
        if Path::new(limit).exists() {
            fs::write(limit, "20480").unwrap();
        }
    });
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a udp4");
    assert_eq!(sockets.call("fill a"), "0");
    assert_eq!(sockets.ask("a", 5432), format!("\"0\" from {}:5432", crate::scene::ip(0)));
    assert_eq!(counter(&scene, "unrecorded"), 1);
}
