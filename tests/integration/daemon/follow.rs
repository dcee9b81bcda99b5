//! `run` follows the table: changes of its file, signals, restarts, and mistakes.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use vipnat_testkit::{App, Following, Load, emulated, program};

use crate::scene::{DB, PORT, Scene, banner, ip, list, strace, table, too_much};

/// The time without output after which `run` counts as quiet.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

fn leads_to(number: u8) -> impl Fn(&str) -> bool {
    move |line: &str| line.contains(&format!("{DB} -> {}", ip(number)))
}

#[test]
fn a_changed_file_is_applied_and_a_broken_one_refused() {
    let scene = Scene::new(3);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    assert_eq!(scene.who(), "0");
    // Write in place, as an editor might.
    scene.vipnat.table(&scene.table(&list([1])));
    run.wait_for(leads_to(1));
    assert_eq!(scene.who(), "1");
    // The file is broken: the last good table stays, and `run` reports this once.
    scene.vipnat.replace_table("[services.s]\nbackends = [\"nonsense\"]\n[apps.shop]\n");
    run.wait_for(|line| line.contains("table.toml:2:13: services.s.backends[0].ip"));
    run.wait_for(|line| line.contains("the previous table stays in force"));
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
    assert_eq!(scene.who(), "1");
    // The file is gone: `run` removes nothing.
    let file = scene.vipnat.table("");
    fs::remove_file(&file).unwrap();
    run.wait_for(|line| line.contains("cannot read it"));
    assert_eq!(scene.who(), "1");
    scene.vipnat.replace_table(&scene.table(&list([2])));
    run.wait_for(leads_to(2));
    assert_eq!(scene.who(), "2");
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
    assert_eq!(scene.who(), "2", "translation goes on");
}

#[test]
fn a_swapped_link_on_the_way_is_noticed() {
    let scene = Scene::new(2);
    let dir = scene.vipnat.table("").with_file_name("map");
    for (version, backend) in [("..v0", 0), ("..v1", 1)] {
        fs::create_dir_all(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("table"), scene.table(&list([backend]))).unwrap();
    }
    let swap = |version: &str| {
        symlink(version, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    swap("..v0");
    symlink("..data/table", dir.join("table")).unwrap();
    let file = dir.join("table");
    let mut run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
    run.wait_for(leads_to(0));
    for version in [1, 0, 1] {
        swap(&format!("..v{version}"));
        run.wait_for(leads_to(version));
    }
    assert_eq!(scene.who(), "1");
}

#[test]
fn a_burst_of_changes_ends_with_the_last_one() {
    let scene = Scene::new(2);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    for number in 0..200 {
        scene.vipnat.replace_table(&scene.table(&list([number % 2])));
    }
    scene.vipnat.replace_table(&scene.table(&list([1, 0])));
    run.wait_for(|line| line.contains(&format!("{DB} -> {} {}", ip(1), ip(0))));
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
}

#[test]
fn sighup_reads_again_and_flush_on_exit_removes_everything() {
    let scene = Scene::new(1);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &["--flush-on-exit"]);
    run.signal(Signal::SIGHUP);
    assert_eq!(run.says_meanwhile(QUIET), [""; 0], "nothing had changed");
    assert_eq!(scene.who(), "0");
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
    assert!(!scene.vipnat.bpffs().exists());
}

#[test]
fn one_run_keeps_a_state_and_others_are_told() {
    let scene = Scene::new(1);
    let text = scene.table(&list([0]));
    let run = scene.vipnat.follow(&text, &[]);
    let file = scene.vipnat.table(&text);
    let file = file.to_str().unwrap();
    for arguments in [&["apply", file][..], &["run", file], &["flush"], &["flush", "--app", "shop"]]
    {
        let refused = scene.vipnat.run(arguments);
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(&format!("(PID {}, from ", run.pid())), "{refused}");
    }
    scene.vipnat.ok(["apply", "--dry-run", file]);
    scene.vipnat.ok(["list"]);
    run.signal(Signal::SIGKILL);
    drop(run);
    assert_eq!(scene.vipnat.ok(["apply", file]), "nothing to change\n");
}

#[test]
fn systemd_is_told_when_it_is_ready_and_what_it_does() {
    use std::os::unix::net::UnixDatagram;

    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let socket = file.with_file_name("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).expect("it says something");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    let mut command = scene.vipnat.command(["run".as_ref(), file.as_os_str()]);
    command.env("NOTIFY_SOCKET", &socket);
    let mut run = Following::start(command);
    let status = format!("STATUS=1 app and 1 relationship, from {}", file.display());
    assert_eq!([next(), next()], [status.clone(), "READY=1".to_owned()]);
    assert_eq!(scene.who(), "0", "ready means that it is applied");
    run.signal(Signal::SIGHUP);
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!([next(), next()], [status, "READY=1".to_owned()]);
    scene.vipnat.replace_table("nonsense");
    assert!(next().starts_with("STATUS="));
    run.signal(Signal::SIGTERM);
    assert_eq!(next(), "STOPPING=1");
    assert!(run.ends().success());
}

#[test]
fn a_run_that_cannot_start_says_why() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table("nonsense");
    for (source, code, wrong) in [
        (file.to_str().unwrap(), 2, "table.toml:1:9"),
        ("/nonexistent/table", 2, "cannot read it"),
        ("-", 2, "name a file"),
        ("etcd://localhost:2379/vipnat", 2, "follows local files only"),
    ] {
        let outcome = scene.vipnat.run(["run", source]);
        assert_eq!(outcome.code(), Some(code), "{outcome}");
        assert!(outcome.stderr.contains(wrong), "{outcome}");
    }
    assert!(!scene.vipnat.bpffs().exists());
}

#[test]
fn state_that_was_lost_is_made_again() {
    let scene = Scene::new(1);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    // If an operator removes the pins, the next check makes them again; here a SIGHUP causes it.
    fs::remove_dir_all(scene.vipnat.bpffs()).unwrap();
    // The kernel detaches links without pins later, in a work queue.
    let gone = || scene.app.probe(&format!("tcp {DB}:{PORT}")).error() == "ENETUNREACH";
    let begun = Instant::now();
    while !gone() {
        assert!(begun.elapsed() < Duration::from_secs(20), "links stay without pins");
    }
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.starts_with("+ shop db"));
    assert_eq!(scene.who(), "0");
}

#[test]
fn no_connect_fails_while_run_is_killed_and_started_again() {
    let scene = Scene::new(2);
    let text = scene.table(&list([0, 1]));
    let mut run = scene.vipnat.follow(&text, &[]);
    let mut load = scene.app.command(program("load"));
    load.args(["--expect", "", "--tcp", "1", "--udp", "1"]).arg(format!("{DB}:{PORT}"));
    let load = Load::start(load);
    for round in 0..10 {
        scene.vipnat.replace_table(&scene.table(&list([round % 2])));
        run.signal(Signal::SIGKILL);
        drop(run);
        let file = scene.vipnat.table(&scene.table(&list([round % 2])));
        run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
        std::thread::sleep(Duration::from_millis(50));
    }
    load.stop().assert_flawless();
}

/// Such a table once took the place of the good one. Then nothing could be applied at all.
#[test]
fn a_table_that_does_not_fit_is_refused_like_one_with_mistakes() {
    let scene = Scene::new(2);
    let pattern = format!("{}/shop-*", scene.app.cgroup.relative());
    // The time is longer than an apply takes, since `run` reports draining connections after it.
    let seconds = if emulated() { 30 } else { 2 };
    let drain = format!("on-backend-removed = \"drain\"\ndrain-seconds = {seconds}\n[apps");
    let text = |backend: u8| {
        table(&[("shop", &pattern, &list([backend]), "")]).replacen("[apps", &drain, 1)
    };
    let mut run = scene.vipnat.follow(&text(0), &[]);
    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    let _held = container.hold(&format!("{DB}:{PORT}"));
    scene.vipnat.replace_table(&text(1));
    run.wait_for(|line| line.contains("drain"));
    scene.vipnat.replace_table(&(text(0) + &too_much("shop")));
    run.wait_for(|line| line.contains("map `backends`"));
    run.wait_for(|line| line.contains("the previous table stays in force"));
    // The rest of the work goes on.
    let other = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-2") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&other.probe(&format!("tcp {DB}:{PORT}"))), "1");
    run.wait_for(|line| line.contains("ended 1 connection"));
}

#[test]
fn the_directory_of_the_table_may_be_replaced() {
    let scene = Scene::new(2);
    let base = scene.vipnat.table("").with_file_name("etc");
    for (dir, backend) in [("old", 0), ("new", 1)] {
        fs::create_dir_all(base.join(dir)).unwrap();
        fs::write(base.join(dir).join("table"), scene.table(&list([backend]))).unwrap();
    }
    let file = base.join("old/table");
    let mut run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
    run.wait_for(leads_to(0));
    fs::rename(base.join("old"), base.join("aside")).unwrap();
    fs::rename(base.join("new"), base.join("old")).unwrap();
    run.wait_for(leads_to(1));
}

#[test]
fn without_watches_it_says_so_and_looks_now_and_then() {
    let scene = Scene::new(2);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let command = scene.vipnat.command(["run".as_ref(), file.as_os_str()]);
    let none = [
        "-D",
        "-qqq",
        "-e",
        "trace=inotify_add_watch",
        "-e",
        "inject=inotify_add_watch:error=ENOSPC",
    ];
    let mut run = Following::start(strace(&command, &none));
    let complaint = |line: &str| line.contains("fs.inotify.max_user_watches");
    run.wait_for(|line| line.starts_with("following "));
    if !run.has_said(complaint) {
        run.wait_for(complaint);
    }
    assert_eq!(scene.who(), "0");
    scene.vipnat.replace_table(&scene.table(&list([1])));
    run.wait_for(leads_to(1));
}

#[test]
fn a_dry_run_beside_run_waits_for_cgroups_as_that_does() {
    let scene = Scene::new(1);
    let text = table(&[("shop", "vipnat-test-nowhere/shop", &list([0]), "")]);
    let _run = scene.vipnat.follow(&text, &[]);
    let file = scene.vipnat.table(&text);
    assert_eq!(
        scene.vipnat.ok(["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]),
        "nothing to change\n"
    );
}
