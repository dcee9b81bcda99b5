//! `run`: the table is followed, and containers as they come and go.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use vipnat_testkit::{App, Cgroup, Following, Load, emulated, program};

use crate::scene::{DB, PORT, Scene, banner, ip, list, strace, table, too_much};

const QUIET: Duration = Duration::from_millis(300);

fn leads_to(number: u8) -> impl Fn(&str) -> bool {
    move |line: &str| line.contains(&format!("{DB} -> {}", ip(number)))
}

#[test]
fn a_changed_file_is_applied_and_a_broken_one_refused() {
    let scene = Scene::new(3);
    let mut run = scene.vipnat.follow(&scene.table(&list([0])), &[]);
    assert_eq!(scene.who(), "0");
    // In place, as an editor might.
    scene.vipnat.table(&scene.table(&list([1])));
    run.wait_for(leads_to(1));
    assert_eq!(scene.who(), "1");
    // Broken: the last good one stays, and it is said once.
    scene.vipnat.replace_table("[services.s]\nbackends = [\"nonsense\"]\n[apps.shop]\n");
    run.wait_for(|line| line.contains("table.toml:2:13: services.s.backends[0].ip"));
    run.wait_for(|line| line.contains("the table before it stays in force"));
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
    assert_eq!(scene.who(), "1");
    // Gone, too: nothing is removed.
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
fn containers_are_attached_as_they_appear_and_forgotten_as_they_go() {
    let scene = Scene::new(1);
    let parent = &scene.app.cgroup;
    let pattern = format!("{}/shop-*", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &pattern, &list([0]), "")]), &[]);
    let probe = format!("tcp {DB}:{PORT}");
    for round in 0..5 {
        let containers: Vec<_> = (0..3)
            .map(|number| {
                let cgroup = parent.child(&format!("shop-{number}"));
                App { host: scene.app.host.clone(), cgroup }
            })
            .collect();
        let other = App { host: scene.app.host.clone(), cgroup: parent.child("blog-1") };
        run.wait_for_many(3, |line| line.starts_with("+ app shop in cgroup"));
        for container in &containers {
            assert_eq!(banner(&container.probe(&probe)), "0", "round {round}");
        }
        assert_eq!(other.probe(&probe).error(), "ENETUNREACH");
        drop((containers, other));
        run.wait_for_many(3, |line| line.starts_with("- app shop in a cgroup that is gone"));
    }
    // Nothing is left of them but the app itself.
    let apps = scene.vipnat.bpffs().join("apps");
    let left: Vec<_> = fs::read_dir(&apps).unwrap().map(|app| app.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 0);
    assert!(left[0].ends_with("1:shop"), "its scope is the same: {left:?}");
}

#[test]
fn a_cgroup_whose_parents_come_later_is_waited_for() {
    let scene = Scene::new(1);
    let parent = Cgroup::new();
    let path = format!("{}/a/b", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &path, &list([0]), "")]), &[]);
    for _ in 0..3 {
        let outer = parent.child("a");
        assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
        let app = App { host: scene.app.host.clone(), cgroup: outer.child("b") };
        run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
        assert_eq!(banner(&app.probe(&format!("tcp {DB}:{PORT}"))), "0");
        drop((app, outer));
        run.wait_for(|line| line.starts_with("- app shop"));
    }
}

#[test]
fn a_cgroup_that_two_patterns_match_is_nobodys() {
    let scene = Scene::new(2);
    let parent = &scene.app.cgroup;
    let (first, second) =
        (format!("{}/x-*", parent.relative()), format!("{}/*-x", parent.relative()));
    let apps = [("shop", first.as_str(), &*list([0]), ""), ("blog", &second, &list([1]), "")];
    let mut run = scene.vipnat.follow(&table(&apps), &[]);
    let contested = App { host: scene.app.host.clone(), cgroup: parent.child("x-x") };
    run.wait_for(|line| line.contains("x-x is claimed by the apps blog, shop"));
    let clear = App { host: scene.app.host.clone(), cgroup: parent.child("x-1") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    let probe = format!("tcp {DB}:{PORT}");
    assert_eq!(banner(&clear.probe(&probe)), "0");
    assert_eq!(contested.probe(&probe).error(), "ENETUNREACH");
    drop(run);
    let error = scene.vipnat.apply_fails(&table(&apps), 1);
    assert!(error.contains("claimed by the apps blog, shop"), "{error}");
    // A path says more than patterns, wherever its app stands among theirs.
    let named = format!("{}/x-x", parent.relative());
    scene.vipnat.apply(&table(&[apps[0], ("blog", &named, &list([1]), "")]));
    assert_eq!(banner(&contested.probe(&probe)), "1");
    assert_eq!(banner(&clear.probe(&probe)), "0");
    for name in ["a", "cd", "zed"] {
        scene.vipnat.apply(&table(&[apps[0], apps[1], (name, &named, &list([1]), "")]));
        assert_eq!(banner(&contested.probe(&probe)), "1", "{name}");
    }
}

#[test]
fn attach_comes_before_the_first_process_and_outlives_tables() {
    let scene = Scene::new(2);
    let probe = format!("tcp {DB}:{PORT}");
    let text = |backend: u8| {
        format!(
            "[services.s]\nbackends = {}\n[apps.shop]\n[apps.shop.relationships.db]\nservice = \"s\"\n",
            list([backend])
        )
    };
    scene.vipnat.apply(&text(0));
    let attach = ["attach", "--app", "shop", "--cgroup", scene.app.cgroup.relative()];
    let printed = scene.vipnat.ok(attach);
    assert_eq!(printed, format!("+ app shop in cgroup {}\n", scene.app.cgroup.relative()));
    assert_eq!(scene.vipnat.ok(attach), "nothing to change\n");
    assert_eq!(scene.who(), "0");
    assert_eq!(scene.vipnat.apply(&text(1)).lines().count(), 1);
    assert_eq!(scene.who(), "1");
    assert!(scene.vipnat.ok(["list"]).contains("(by hand)"));

    // By a process in it.
    let other = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("other") };
    let cgroup = Cgroup::new();
    let app = App { host: scene.app.host.clone(), cgroup };
    let mut sleeping = app.command("sleep").arg("60").spawn().unwrap();
    let pid = sleeping.id().to_string();
    scene.vipnat.ok(["attach", "--app", "shop", "--pid", &pid]);
    assert_eq!(banner(&app.probe(&probe)), "1");
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    drop(other);

    // What is gone is forgotten by the next apply.
    drop(app);
    assert_eq!(scene.vipnat.apply(&text(1)), "- app shop in a cgroup that is gone\n");

    for (arguments, wrong) in [
        (["--app", "nobody", "--cgroup", scene.app.cgroup.relative()], "there are: shop"),
        (["--app", "shop", "--cgroup", "vipnat-test-nowhere"], "does not exist"),
        (["--app", "shop", "--cgroup", "/etc"], "below the cgroup v2 mount"),
        (["--app", "shop", "--pid", "4294967295"], "no process"),
    ] {
        let refused = scene.vipnat.run(["attach"].iter().chain(&arguments));
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(wrong), "{refused}");
    }
    // Links that somebody removed are made again.
    let apps = scene.vipnat.bpffs().join("apps");
    let app_dir = fs::read_dir(apps).unwrap().next().unwrap().unwrap().path();
    let links = fs::read_dir(app_dir).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(links.join("connect4")).unwrap();
    assert!(scene.vipnat.apply(&text(1)).starts_with("+ app shop in cgroup"));
    assert_eq!(scene.who(), "1");
    assert!(scene.vipnat.ok(["list"]).contains("(by hand)"));

    // Removed from the table, the app leaves it after all.
    scene.vipnat.apply(
        &table(&[("blog", Cgroup::new().relative(), "[]", "")])
            .replace("[apps.blog]\ncgroup", "[apps.blog]\n#"),
    );
    assert_eq!(scene.app.probe(&probe).error(), "ENETUNREACH");
}

#[test]
fn what_was_attached_by_hand_is_forgotten_by_run_when_it_goes() {
    let scene = Scene::new(1);
    let text = format!(
        "[services.s]\nbackends = {}\n[apps.shop]\n[apps.shop.relationships.db]\nservice = \"s\"\n",
        list([0])
    );
    let container = scene.app.cgroup.child("container");
    scene.vipnat.apply(&text);
    scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", container.relative()]);
    let file = scene.vipnat.table(&text);
    let mut run = Following::start(scene.vipnat.command(["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
    drop(container);
    run.wait_for(|line| line.starts_with("- app shop in a cgroup that is gone"));
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
        assert!(refused.stderr.contains(&format!("process {}", run.pid())), "{refused}");
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
    let status = format!("STATUS=1 app and 1 relationship, as {} says", file.display());
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
    // Whoever removes the pins by hand gets them back with the next look, here a SIGHUP.
    fs::remove_dir_all(scene.vipnat.bpffs()).unwrap();
    // The kernel detaches links whose last pin went in a work queue of its own.
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

/// It once took the place of the good one, and then nothing could be applied at all.
#[test]
fn a_table_that_does_not_fit_is_refused_like_one_with_mistakes() {
    let scene = Scene::new(2);
    let pattern = format!("{}/shop-*", scene.app.cgroup.relative());
    // Longer than an apply takes, after which it says what drains.
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
    run.wait_for(|line| line.contains("the table before it stays in force"));
    // What has to go on goes on.
    let other = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-2") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&other.probe(&format!("tcp {DB}:{PORT}"))), "1");
    run.wait_for(|line| line.contains("ended 1 connection"));
}

/// Tables once won, also those whose pattern only happens to match.
#[test]
fn what_a_hook_attached_is_not_another_apps_by_a_pattern() {
    let scene = Scene::new(2);
    let pattern = format!("{}/*", scene.app.cgroup.relative());
    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    let probe = format!("tcp {DB}:{PORT}");
    let special = table(&[("special", "x", &list([1]), "")]).replace("cgroup = \"x\"\n", "");
    let both = special.clone() + &table(&[("general", &pattern, &list([0]), "")]);
    let attach = ["attach", "--app", "special", "--cgroup", container.cgroup.relative()];
    scene.vipnat.apply(&special);
    scene.vipnat.ok(attach);
    scene.vipnat.apply(&both);
    assert_eq!(banner(&container.probe(&probe)), "1");
    // The pattern may be faster than the hook.
    scene.vipnat.ok(["flush"]);
    scene.vipnat.apply(&both);
    assert_eq!(banner(&container.probe(&probe)), "0");
    scene.vipnat.ok(attach);
    assert_eq!(banner(&container.probe(&probe)), "1");
    assert_eq!(scene.vipnat.apply(&both), "nothing to change\n");
    // A path is meant as it is.
    let named = table(&[("general", container.cgroup.relative(), &list([0]), "")]);
    scene.vipnat.apply(&(special + &named));
    assert_eq!(banner(&container.probe(&probe)), "0");
}

/// A watch goes with its directory, and was once not set again if another had its name by then.
#[test]
fn a_parent_that_is_replaced_at_once_is_watched_again() {
    let scene = Scene::new(1);
    let parent = Cgroup::new();
    let path = format!("{}/lxc/shop-*", parent.relative());
    let mut run = scene.vipnat.follow(&table(&[("shop", &path, &list([0]), "")]), &[]);
    let mut lxc = parent.child("lxc");
    for _ in 0..5 {
        drop(lxc);
        lxc = parent.child("lxc");
        let shop = lxc.child("shop-1");
        run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
        drop(shop);
        run.wait_for(|line| line.starts_with("- app shop"));
    }
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

/// Two links of one app, one inside the other, are in each other's way: `getpeername` showed the backend.
#[test]
fn a_cgroup_inside_one_of_the_same_app_needs_no_links() {
    let scene = Scene::new(1);
    scene.apply_first(1);
    let inner = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("init") };
    let attach = ["attach", "--app", "shop", "--cgroup", inner.cgroup.relative()];
    assert_eq!(scene.vipnat.ok(attach), "nothing to change\n");
    let report = inner.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.ok, report.peer()), (true, format!("{DB}:{PORT}").as_str()), "{report:?}");
    assert_eq!(scene.vipnat.apply(&scene.table(&list([0]))), "nothing to change\n");
}
