//! Apps are isolated: vipnat translates only the cgroups of an app, and only to its own backends.

use std::net::Ipv4Addr;

use serde_json::Value;
use vipnat_testkit::{App, bpf::Refusal};

use crate::{
    scene::{DB, PORT, Scene, banner, ip, list, table},
    sockets::Sockets,
};

#[test]
fn two_apps_with_one_vip_reach_their_own_backends() {
    let scene = Scene::new(4);
    let other = App::new(scene.network.host(Ipv4Addr::new(247, 221, 80, 11)));
    scene.vipnat.apply(&table(&[
        ("shop", scene.app.cgroup.relative(), &list([0, 1]), ""),
        ("blog", other.cgroup.relative(), &list([2, 3]), ""),
    ]));
    let probe = format!("tcp {DB}:{PORT}");
    for turn in 0..6 {
        assert_eq!(banner(&scene.app.probe(&probe)), (turn % 2).to_string());
        assert_eq!(banner(&other.probe(&probe)), (2 + turn % 2).to_string());
    }
}

#[test]
fn child_cgroups_are_translated() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let child = scene.app.cgroup.child("worker");
    let grandchild = child.child("deep");
    for cgroup in [grandchild, child] {
        let app = App { host: scene.app.host.clone(), cgroup };
        let report = app.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!((report.banner(), report.peer()), ("0", format!("{DB}:{PORT}").as_str()));
    }
}

#[test]
fn other_cgroups_are_untouched() {
    let scene = Scene::new(1);
    // One app was there before the apply, and one came later. Both are on the same host.
    let before = App::new(scene.app.host.clone());
    scene.apply_first(1);
    let after = App::new(scene.app.host.clone());
    for app in [before, after] {
        let report = app.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!(report.error(), "ENETUNREACH", "{report:?}");
    }
}

#[test]
fn an_app_inside_an_apps_cgroup_has_its_own_vips_and_the_outer_ones_else() {
    let scene = Scene::new(2);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("inner") };
    let outer = scene.app.cgroup.relative();
    let cache = "169.254.206.224";
    let tables = table(&[
        ("shop", outer, &list([0]), "[apps.shop.relationships.cache]\nservice = \"shop\""),
        ("inner", inner.cgroup.relative(), &list([1]), ""),
    ]);
    scene.vipnat.apply(&tables);
    // The parent's hook runs after the child's, and must not undo its record.
    let report = inner.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.banner(), report.peer()), ("1", format!("{DB}:{PORT}").as_str()));
    let report = inner.probe(&format!("tcp {cache}:{PORT}"));
    assert_eq!((report.banner(), report.peer()), ("0", format!("{cache}:{PORT}").as_str()));
    let report = scene.app.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.banner(), report.peer()), ("0", format!("{DB}:{PORT}").as_str()));
}

#[test]
fn an_app_that_leaves_the_table_is_untouched_and_the_others_stay() {
    let scene = Scene::new(2);
    let other = App::new(scene.app.host.clone());
    let shop = ("shop", scene.app.cgroup.relative(), "", "");
    let both = [(shop.0, shop.1, list([0]), ""), ("blog", other.cgroup.relative(), list([1]), "")];
    let both: Vec<_> = both.iter().map(|(a, b, c, d)| (*a, *b, c.as_str(), *d)).collect();
    let probe = format!("tcp {DB}:{PORT}");

    scene.vipnat.apply(&table(&both));
    assert_eq!(banner(&other.probe(&probe)), "1");
    scene.vipnat.apply(&table(&both[..1]));
    assert_eq!(other.probe(&probe).error(), "ENETUNREACH");
    assert_eq!(scene.who(), "0");

    // The same with `flush --app`, and then with the app applied again.
    scene.vipnat.apply(&table(&both));
    assert_eq!(banner(&other.probe(&probe)), "1");
    scene.vipnat.ok(["flush", "--app", "blog"]);
    assert_eq!(other.probe(&probe).error(), "ENETUNREACH");
    assert_eq!(scene.who(), "0");
    scene.vipnat.apply(&table(&both));
    assert_eq!(banner(&other.probe(&probe)), "1");
}

#[test]
fn apps_that_exchange_their_cgroups_exchange_their_backends() {
    let scene = Scene::new(2);
    let other = App::new(scene.app.host.clone());
    let (first, second) = (scene.app.cgroup.relative(), other.cgroup.relative());
    let probe = format!("tcp {DB}:{PORT}");
    for (shop, blog) in [(first, second), (second, first), (first, second)] {
        scene
            .vipnat
            .apply(&table(&[("shop", shop, &list([0]), ""), ("blog", blog, &list([1]), "")]));
        let report = scene.app.probe(&probe);
        assert_eq!(report.banner(), if shop == first { "0" } else { "1" });
        assert_eq!(report.peer(), format!("{DB}:{PORT}"));
        assert_eq!(banner(&other.probe(&probe)), if shop == first { "1" } else { "0" });
    }
}

#[test]
fn two_instances_side_by_side_do_not_see_each_other() {
    let scene = Scene::new(2);
    let other = Scene::new(0);
    scene.apply_first(1);
    // The other instance translates another app with another name.
    other.vipnat.apply(&table(&[("shop", other.app.cgroup.relative(), "[]", "")]));
    assert_eq!(scene.who(), "0");
    other.vipnat.ok(["flush"]);
    assert_eq!(scene.who(), "0");
    assert!(scene.vipnat.ok(["list"]).contains("shop"));
}

/// The kernel runs programs of the outer cgroup even if one of the inner cgroup has refused the call.
#[test]
fn a_call_that_the_inner_app_refuses_takes_no_turn_of_the_outer_ones() {
    let scene = Scene::new(2);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("inner") };
    scene.vipnat.apply(&table(&[
        ("shop", scene.app.cgroup.relative(), &list([0, 1]), ""),
        ("inner", inner.cgroup.relative(), "[]", ""),
    ]));
    let mut inside = Sockets::of(&inner);
    assert_eq!(inside.call(&format!("who tcp4 {DB}:{PORT}")), "EHOSTUNREACH");
    assert_eq!(inside.call(&format!("who tcp6 [::ffff:{DB}]:{PORT}")), "EHOSTUNREACH");
    assert_eq!(inside.call(&format!("who udp4 {DB}:{PORT}")), "EHOSTUNREACH");
    assert_eq!(inside.call("socket a udp4"), "0");
    assert_eq!(inside.call(&format!("sendto a ? {DB}:{PORT}")), "EHOSTUNREACH");
    let mut outside = Sockets::of(&scene.app);
    assert_eq!(outside.call(&format!("who udp4 {DB}:{PORT}")), "\"0\"");
    assert_eq!(scene.who_of(2), ["0", "1"]);
    assert_eq!(turns(&scene, "shop"), 3);
}

/// The same if a program of another tool refuses, on a cgroup below or on the app's own.
#[test]
fn a_call_that_another_program_has_refused_takes_no_turn_and_keeps_its_error() {
    let scene = Scene::new(2);
    let child = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("child") };
    let hooks = ["connect4", "connect6", "sendmsg4"];
    let above = Refusal::attach(scene.app.cgroup.path(), &hooks).unwrap();
    let cache =
        "[services.none]\nbackends = []\n[apps.shop.relationships.cache]\nservice = \"none\"\n";
    scene.vipnat.apply(&(scene.table(&list([0, 1])) + cache));
    let refused = |sockets: &mut Sockets| {
        // The second VIP has no backends, which is a reason of its own to refuse.
        for vip in [DB, "169.254.206.224"] {
            assert_eq!(sockets.call(&format!("who tcp4 {vip}:{PORT}")), "EPERM");
            assert_eq!(sockets.call(&format!("who udp6 [::ffff:{vip}]:{PORT}")), "EPERM");
            assert_eq!(sockets.call("socket a udp4"), "0");
            assert_eq!(sockets.call(&format!("sendto a ? {vip}:{PORT}")), "EPERM");
        }
    };
    refused(&mut Sockets::of(&scene.app));
    drop(above);
    let below = Refusal::attach(child.cgroup.path(), &hooks).unwrap();
    refused(&mut Sockets::of(&child));
    drop(below);
    assert_eq!(turns(&scene, "shop"), 0);
    assert_eq!(scene.who_of(2), ["0", "1"]);
}

/// After a datagram to the backend's own address, its answers show that address. A datagram that is not sent
/// does not change that.
#[test]
fn a_refused_datagram_to_the_backend_leaves_the_answers_of_the_vip_what_they_are() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let child = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("child") };
    let mut sockets = Sockets::of(&child);
    sockets.call("socket a udp4");
    assert_eq!(sockets.call(&format!("sendto a ? {DB}:{PORT}")), "1");
    let refusal = Refusal::attach(child.cgroup.path(), &["sendmsg4"]).unwrap();
    assert_eq!(sockets.call(&format!("sendto a ? {}:{PORT}", ip(0))), "EPERM");
    drop(refusal);
    assert_eq!(sockets.call("recvfrom a"), format!("\"0\" from {DB}:{PORT}"));
}

/// The number of turns that the app's `db` has given.
fn turns(scene: &Scene, app: &str) -> u64 {
    let listing: Value = serde_json::from_str(&scene.vipnat.ok(["list", "--json"])).unwrap();
    let apps = listing["apps"].as_array().unwrap();
    let app = apps.iter().find(|found| found["app"] == app).unwrap();
    let relationships = app["relationships"].as_array().unwrap();
    let db = relationships.iter().find(|found| found["relationship"] == "db").unwrap();
    db["connections"].as_u64().unwrap()
}
