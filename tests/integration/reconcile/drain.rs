//! `on-backend-removed = "drain"`: connections to a removed backend end after a time.

use std::{thread, time::Duration};

use vipnat_testkit::emulated;

use crate::{
    reconcile::policy::{connect, db, shop, works},
    scene::{DB, PORT, Scene, ip, list},
    sockets::Sockets,
};

/// A policy with a time to drain that is longer than two commands take, and the time after which it is over.
fn drain() -> (String, Duration) {
    let seconds = if emulated() { 10 } else { 1 };
    let policy = format!("on-backend-removed = \"drain\"\ndrain-seconds = {seconds}");
    (policy, Duration::from_millis(seconds * 1000 + 1100))
}

#[test]
fn drain_ends_connections_after_its_time() {
    let scene = Scene::new(2);
    let (v4, v6) = db();
    let (drain, time) = drain();
    scene.vipnat.apply(&shop(&scene, [0], &drain));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    connect(&mut sockets, "b", "udp6", &v6, 0);
    let printed = scene.vipnat.apply(&shop(&scene, [1], &drain));
    let line = format!("x shop db {DB}: draining 2 connections to {} until ", ip(0));
    assert!(printed.contains(&line), "{printed}");
    assert!(works(&mut sockets, "a") && works(&mut sockets, "b"));
    thread::sleep(time);
    assert!(works(&mut sockets, "a"), "nobody ends it by itself");
    assert_eq!(
        scene.vipnat.apply(&shop(&scene, [1], &drain)),
        format!("x shop db {DB}: ended 2 connections to {}\n", ip(0))
    );
    assert_eq!(sockets.call("recv b"), "ECONNABORTED");
    assert_eq!(scene.vipnat.apply(&shop(&scene, [1], &drain)), "nothing to change\n");
}

#[test]
fn a_backend_that_comes_back_keeps_what_drains() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let (drain, time) = drain();
    scene.vipnat.apply(&shop(&scene, [0], &drain));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    scene.vipnat.apply(&shop(&scene, [1], &drain));
    scene.vipnat.apply(&shop(&scene, [0, 1], &drain));
    thread::sleep(time);
    assert_eq!(scene.vipnat.apply(&shop(&scene, [0, 1], &drain)), "nothing to change\n");
    assert!(works(&mut sockets, "a"));
}

/// `run` ends the connections by itself.
#[test]
fn run_ends_what_has_drained() {
    let scene = Scene::new(2);
    let text = |backends: &str| {
        let (policy, _) = drain();
        scene.table(backends).replacen("\n[apps", &format!("\n{policy}\n[apps"), 1)
    };
    let mut run = scene.vipnat.follow(&text(&list([0])), &[]);
    let _held = scene.app.hold(&format!("{DB}:{PORT}"));
    scene.vipnat.replace_table(&text(&list([1])));
    run.wait_for(|line| line.contains("drain"));
    run.wait_for(|line| line.contains("ended 1 connection"));
    assert_eq!(scene.who(), "1");
}
