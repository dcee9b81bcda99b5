//! `on-backend-removed`: the connections to a removed backend that end, how they end, and those that stay.

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use vipnat_testkit::{App, outcome};

use crate::{
    reconcile::policy::{KILL, connect, db, shop, with_policy, works},
    scene::{DB, PORT, Scene, ip, list, table},
    sockets::Sockets,
};

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
        // One connection goes to each backend, since they take turns.
        for backend in 0..2 {
            connect(&mut sockets, &format!("{name}-{backend}"), kind, to, backend);
        }
    }
    // These connect directly to the backend that leaves.
    connect(&mut sockets, "direct", "tcp4", &format!("{}:{PORT}", ip(0)), 0);
    connect(&mut sockets, "direct-udp", "udp4", &format!("{}:{PORT}", ip(0)), 0);
    // This socket is not connected, and has a flow.
    sockets.call("socket unconnected udp4");
    assert!(sockets.ask("unconnected", PORT).contains(DB));
    // One is a server of the app, and one has left the VIP for another peer.
    sockets.call("socket listening tcp4");
    sockets.call("bind listening 0.0.0.0:7000");
    sockets.call("listen listening");
    connect(&mut sockets, "moved-on", "udp4", &v4, 0);
    for to in ["unspec", &format!("{}:{PORT}", ip(0))] {
        assert_eq!(sockets.call(&format!("connect moved-on {to}")), "0");
    }
    // Another app on the same host uses the same VIP.
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
        assert_eq!(sockets.call(&format!("recv {name}")), "ECONNABORTED");
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
    // A UDP socket that was ended connects through the VIP again.
    assert_eq!(sockets.call(&format!("connect u4-0 {v4}")), "0");
    assert_eq!(sockets.call("ask u4-0"), "\"1\"");
}

/// Without this, `psql` and the like would wait in recv for ever.
#[test]
fn kill_wakes_who_waits_and_resets_the_server() {
    let scene = Scene::new(1);
    scene.service_host.add_address(ip(1));
    let listener = scene.service_host.run(|| TcpListener::bind((ip(1), PORT)).unwrap());
    scene.vipnat.apply(&shop(&scene, [1], KILL));
    let mut sockets = Sockets::of(&scene.app);
    sockets.call("socket a tcp4");
    assert_eq!(sockets.call(&format!("connect a {DB}:{PORT}")), "0");
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (woken, printed) = thread::scope(|scope| {
        let waiting = scope.spawn(|| sockets.call("recv a"));
        thread::sleep(Duration::from_millis(200));
        let printed = scene.vipnat.apply(&shop(&scene, [0], KILL));
        (waiting.join().unwrap(), printed)
    });
    assert_eq!(woken, "ECONNABORTED");
    let line = format!("x shop db {DB}: ended 1 connection to {}\n", ip(1));
    assert!(printed.ends_with(&line), "{printed}");
    let reset = server.read(&mut [0; 8]).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn without_a_policy_everything_stays() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    scene.vipnat.apply(&shop(&scene, [0], ""));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    let printed = scene.vipnat.apply(&shop(&scene, [1], ""));
    assert!(!printed.contains("x shop"), "{printed}");
    assert!(works(&mut sockets, "a"));
    // The policy of the table that removes the backend counts, not that of the table before.
    connect(&mut sockets, "b", "tcp4", &v4, 1);
    assert_eq!(scene.vipnat.apply(&shop(&scene, [1], KILL)), "nothing to change\n");
    let printed = scene.vipnat.apply(&shop(&scene, [0], ""));
    assert!(!printed.contains("x shop"), "{printed}");
    assert!(works(&mut sockets, "b"));
}

#[test]
fn a_service_that_loses_every_backend_and_a_relationship_that_is_removed() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let cgroup = scene.app.cgroup.relative();
    let without = format!("[apps.shop]\ncgroup = \"{cgroup}\"\n");
    let other = App::new(scene.app.host.clone());
    let gone = format!("[apps.other]\ncgroup = \"{}\"\n", other.cgroup.relative());
    for (what, table) in [
        ("no backends", shop(&scene, [], KILL)),
        ("the relationship is gone", without),
        ("the app is gone", gone),
    ] {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        let mut sockets = Sockets::of(&scene.app);
        connect(&mut sockets, "a", "tcp4", &v4, 0);
        let printed = scene.vipnat.apply(&table);
        let line = format!("x shop db {DB}: ended 1 connection to {}\n", ip(0));
        assert!(printed.ends_with(&line), "{what}: {printed}");
        assert_eq!(sockets.call("recv a"), "ECONNABORTED", "{what}");
    }
}

#[test]
fn another_name_for_the_app_ends_nothing_and_neither_do_weights_ports_and_order() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let cgroup = scene.app.cgroup.relative();
    scene.vipnat.apply(&shop(&scene, [0, 1], KILL));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "tcp4", &v4, 0);
    let [a, b] = [ip(0), ip(1)];
    for backends in [
        format!("[\"{b}\", \"{a}\"]"),
        format!("[{{ ip = \"{a}\", weight = 3 }}, \"{b}\"]"),
        format!("[{{ ip = \"{a}\", port = {PORT} }}]"),
        format!("[\"{a}\", {{ ip = \"{b}\", port = {PORT} }}]"),
    ] {
        let printed = scene.vipnat.apply(&with_policy(&[("shop", cgroup, &backends)], KILL));
        assert!(printed.starts_with("~ shop") && !printed.contains("x shop"), "{printed}");
        assert!(works(&mut sockets, "a"), "{backends}");
    }
    let printed = scene.vipnat.apply(&with_policy(&[("store", cgroup, &list([0]))], KILL));
    assert!(printed.starts_with("- app shop") && !printed.contains("x "), "{printed}");
    assert!(works(&mut sockets, "a"));
}

/// Both apps' processes are in one network namespace. The inner app's cgroup is below that of the outer app,
/// and it also connects through the outer app's VIP.
#[test]
fn cgroups_that_nest_and_two_namespaces() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("inner") };
    let away = App {
        host: scene.network.host(Ipv4Addr::new(247, 221, 80, 12)),
        cgroup: scene.app.cgroup.child("away"),
    };
    let (outer_cgroup, inner_cgroup) = (scene.app.cgroup.relative(), inner.cgroup.relative());
    let apps = |outer: u8, inner: u8| {
        let (outer, inner) = (list([outer]), list([inner]));
        let text = table(&[
            ("shop", outer_cgroup, &outer, "[apps.shop.relationships.cache]\nservice = \"shop\""),
            ("inner", inner_cgroup, &inner, ""),
        ]);
        text.replace("backends =", &format!("{KILL}\nbackends ="))
    };
    scene.vipnat.apply(&apps(0, 0));
    let mut sockets = [Sockets::of(&scene.app), Sockets::of(&inner), Sockets::of(&away)];
    let cache = format!("169.254.206.224:{PORT}");
    for sockets in &mut sockets {
        connect(sockets, "db", "tcp4", &v4, 0);
        connect(sockets, "cache", "tcp4", &cache, 0);
    }
    let printed = scene.vipnat.apply(&apps(1, 0));
    assert!(
        printed
            .contains(&format!("x shop cache 169.254.206.224: ended 3 connections to {}\n", ip(0))),
        "{printed}"
    );
    assert!(
        printed.contains(&format!("x shop db {DB}: ended 2 connections to {}\n", ip(0))),
        "{printed}"
    );
    assert!(works(&mut sockets[1], "db"), "the inner app's own VIP, of the same address");
    for (number, name) in [(0, "db"), (0, "cache"), (1, "cache"), (2, "db"), (2, "cache")] {
        assert_eq!(
            sockets[number].call(&format!("recv {name}")),
            "ECONNABORTED",
            "{number} {name}"
        );
    }
}

/// vipnat notes the connections to end before it makes the change.
#[test]
fn what_a_killed_apply_did_not_end_the_next_one_ends() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    let mut kills = 0;
    // Kill at one in seventeen calls, so that the test takes seconds.
    for nth in (1..).step_by(17) {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        let mut sockets = Sockets::of(&scene.app);
        connect(&mut sockets, "a", "tcp4", &v4, 0);
        let file = scene.vipnat.table(&shop(&scene, [1], KILL));
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let calls = "bpf,rename,unlink,unlinkat,sendto";
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-e", &format!("trace={calls}"), "-e", &inject]);
        let killed = outcome(strace.arg(apply.get_program()).args(apply.get_args()));
        if !killed.status.success() {
            kills += 1;
            scene.vipnat.ok(["apply".as_ref(), file.as_os_str()]);
        }
        assert_eq!(sockets.call("recv a"), "ECONNABORTED", "kill {nth}");
        if killed.status.success() {
            break;
        }
    }
    assert!(kills > 3, "{kills}");
}

/// A connect during the change follows the old list or the new one. vipnat ends the connections that followed
/// the old list, even if they complete late.
#[test]
fn connects_during_the_change_leave_nothing_at_the_old_backend() {
    let scene = Scene::new(2);
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut sockets = Sockets::of(&scene.app);
    let changing = AtomicBool::new(true);
    let connected = thread::scope(|scope_of_threads| {
        let connecting = scope_of_threads.spawn(|| {
            let mut count = 0;
            // Stop at the number of files that the client may have open.
            while changing.load(Ordering::Relaxed) && count < 900 {
                sockets.call(&format!("socket s{count} tcp4"));
                let result = sockets.call(&format!("connect s{count} {DB}:{PORT}"));
                assert!(["0", "ECONNABORTED"].contains(&result.as_str()), "{result}");
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            count
        });
        while scene.backends[0].connections() < 20 {
            thread::sleep(Duration::from_millis(1));
        }
        let applied = catch_unwind(AssertUnwindSafe(|| {
            scene.vipnat.apply(&shop(&scene, [1], KILL));
        }));
        changing.store(false, Ordering::Relaxed);
        applied.unwrap();
        connecting.join().unwrap()
    });
    let mut alive = 0;
    for number in 0..connected {
        if sockets.call(&format!("getpeername s{number}")) != "ENOTCONN" {
            // The greeting names the backend.
            let greeting = sockets.call(&format!("recv s{number}"));
            assert!(greeting.starts_with("\"1"), "socket {number} of {connected}: {greeting}");
            alive += 1;
        }
    }
    assert!(alive < connected, "{connected} connects, all to the new backend");
}

#[test]
fn without_the_capabilities_to_enter_a_namespace_apply_says_so_and_works() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    for (more, missing) in [("", "CAP_SYS_PTRACE"), (",+sys_ptrace", "CAP_SYS_ADMIN")] {
        scene.vipnat.apply(&shop(&scene, [0], KILL));
        let mut sockets = Sockets::of(&scene.app);
        connect(&mut sockets, "a", "tcp4", &v4, 0);
        let file = scene.vipnat.table(&shop(&scene, [1], KILL));
        let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
        let mut setpriv = Command::new("setpriv");
        setpriv.arg(format!("--bounding-set=-all,+bpf,+perfmon,+net_admin{more}"));
        let applied = outcome(setpriv.arg(apply.get_program()).args(apply.get_args()));
        assert_eq!(applied.code(), Some(0), "{applied}");
        assert!(applied.stdout.contains("~ shop db"), "{applied}");
        assert!(applied.stderr.contains("app \"shop\""), "{applied}");
        assert!(applied.stderr.contains(missing), "{applied}");
        assert!(works(&mut sockets, "a"));
    }
}

/// vipnat could end its subflows, but the socket would then wait for others for ever.
#[test]
fn mptcp_sockets_stay() {
    let scene = Scene::new(2);
    let (v4, _) = db();
    scene.vipnat.apply(&shop(&scene, [0], KILL));
    let mut sockets = Sockets::of(&scene.app);
    connect(&mut sockets, "a", "mptcp4", &v4, 0);
    let file = scene.vipnat.table(&shop(&scene, [1], KILL));
    let applied = scene.vipnat.run(["apply".as_ref(), file.as_os_str()]);
    assert!(works(&mut sockets, "a"));
    let stays = format!("app \"shop\": 1 connection to {} of db {DB} stay: they are MPTCP", ip(0));
    assert!(applied.code() == Some(0) && applied.stderr.contains(&stays), "{applied}");
}
