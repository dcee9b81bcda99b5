//! `run` and cgroups that come and go: the cost of each one, and the app that gets it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::Signal,
};
use vipnat_testkit::{App, Cgroup, Following};

use crate::scene::{DB, PORT, Scene, banner, list, strace, table};

const QUIET: Duration = Duration::from_millis(300);

/// A `run` under strace, which writes its system calls to a file.
struct Traced {
    run: Following,
    calls: PathBuf,
    /// The number of bytes read from that file so far.
    known: usize,
}

impl Traced {
    /// Follows a table. strace writes only these system calls.
    fn start(scene: &Scene, text: &str, calls: &str) -> Self {
        Self::start_in(&[], scene, text, calls)
    }

    /// The same, started by another program.
    fn start_in(wrapper: &[&str], scene: &Scene, text: &str, calls: &str) -> Self {
        let file = scene.vipnat.table(text);
        let log = file.with_file_name("calls");
        let mut run = scene.vipnat.command(["run".as_ref(), file.as_os_str()]);
        if let [program, arguments @ ..] = wrapper {
            let mut wrapped = Command::new(program);
            wrapped.args(arguments).arg(run.get_program()).args(run.get_args());
            run = wrapped;
        }
        let trace = format!("trace={calls}");
        let options = ["-D", "-qqq", "-o", log.to_str().unwrap(), "-e", &trace];
        let mut run = Following::start(strace(&run, &options));
        run.wait_for(|line| line.starts_with("following "));
        Self { run, calls: log, known: 0 }
    }

    /// The calls since the last time.
    fn calls(&mut self) -> Vec<String> {
        let calls = fs::read_to_string(&self.calls).unwrap();
        let new = calls[self.known..].lines().map(str::to_owned);
        self.known = calls.len();
        // The line of an interrupted call has a second part, which this skips.
        new.filter(|call| !call.contains("resumed>")).collect()
    }
}

/// A table of many apps: one with a pattern, and many with a cgroup each that does not exist.
fn many(scene: &Scene, apps: usize) -> String {
    let parent = scene.app.cgroup.relative();
    let mut text = table(&[("shop", &format!("{parent}/shop-*"), &list([0]), "")]);
    for number in 0..apps {
        text += &format!("[apps.a{number}]\ncgroup = \"{parent}/a{number}\"\n");
    }
    text
}

/// Stops a `run` until SIGCONT, at a moment when it keeps no other command from its state.
fn stop(scene: &Scene, run: &Following) {
    let stopped = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    let tasks = || fs::read_dir(format!("/proc/{}/task", run.pid())).unwrap().flatten();
    loop {
        run.signal(Signal::SIGSTOP);
        while !tasks().all(|task| stopped(&task.path())) {
            sleep(Duration::from_millis(5));
        }
        let state = File::open(scene.vipnat.bpffs()).unwrap();
        if Flock::lock(state, FlockArg::LockExclusiveNonblock).is_ok() {
            return;
        }
        run.signal(Signal::SIGCONT);
        sleep(Duration::from_millis(20));
    }
}

/// Each such cgroup once cost a look at all apps. If an app had it, it even cost a whole apply.
#[test]
fn a_cgroup_that_comes_or_goes_costs_no_look_at_other_apps_or_the_table_in_the_kernel() {
    let scene = Scene::new(1);
    let mut traced = Traced::start(&scene, &many(&scene, 20), "bpf,openat,statx");
    assert_eq!(traced.run.says_meanwhile(QUIET), [""; 0]);
    traced.calls();
    for number in 0..50 {
        drop(scene.app.cgroup.child(&format!("foreign-{number}")));
    }
    assert_eq!(traced.run.says_meanwhile(QUIET), [""; 0]);
    assert_eq!(traced.calls(), [""; 0], "nothing of it is ours");

    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    traced.run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&container.probe(&format!("tcp {DB}:{PORT}"))), "0");
    drop(container);
    traced.run.wait_for(|line| line.starts_with("- app shop in a cgroup that is gone"));
    let calls = traced.calls();
    assert!(calls.iter().any(|call| call.contains("BPF_LINK_CREATE")), "{calls:?}");
    let others = |call: &String| {
        let other = call.contains("/apps/") && !call.contains(":shop");
        let tables = ["/apps\"", "maps/backends", "maps/vips", "maps/cursors"];
        other || tables.iter().any(|all| call.contains(all))
    };
    assert_eq!(calls.into_iter().filter(others).collect::<Vec<_>>(), [""; 0]);
}

/// If an app had a cgroup by hand, `run` once walked through a tenant's own cgroups for each event, and in
/// each full check.
#[test]
fn a_tenants_own_cgroups_are_not_looked_at_for_what_is_attached_by_hand() {
    // Once with the right to find a cgroup by its id, and once without it, like the service.
    for wrapper in [&[][..], &["setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-all"]] {
        let scene = Scene::new(1);
        let tenant = scene.app.cgroup.child("tenant");
        let inner: Vec<_> = (0..50).map(|number| tenant.child(&format!("t{number}"))).collect();
        let deep = inner[0].child("deep");
        let hosts = Cgroup::new();
        let container = hosts.child("container");
        let text = table(&[("shop", "x", &list([0]), "")]).replace("cgroup = \"x\"\n", "");
        scene.vipnat.apply(&text);
        scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", container.relative()]);
        let calls = "openat,statx,newfstatat,inotify_add_watch";
        let mut traced = Traced::start_in(wrapper, &scene, &text, calls);
        assert_eq!(traced.run.says_meanwhile(QUIET), [""; 0]);
        // The service has searched for the cgroup once.
        traced.calls();
        for _ in 0..20 {
            drop(inner[1].child("one"));
            drop(hosts.child("other"));
        }
        traced.run.signal(Signal::SIGHUP);
        assert_eq!(traced.run.says_meanwhile(QUIET), [""; 0]);
        let into = |call: &String| call.contains("/tenant");
        assert_eq!(traced.calls().into_iter().filter(into).collect::<Vec<_>>(), [""; 0]);
        drop(container);
        traced.run.wait_for(|line| line.starts_with("- app shop in a cgroup that is gone"));
        if wrapper.is_empty() {
            assert_eq!(traced.calls().into_iter().filter(into).collect::<Vec<_>>(), [""; 0]);
        }
        drop(deep);
    }
}

#[test]
fn a_cgroup_that_comes_when_the_state_was_removed_brings_all_of_it_back() {
    let scene = Scene::new(1);
    let mut run = scene.vipnat.follow(&many(&scene, 1), &[]);
    fs::remove_dir_all(scene.vipnat.bpffs()).unwrap();
    let container = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&container.probe(&format!("tcp {DB}:{PORT}"))), "0");
}

/// One app must not have links on nested cgroups, no matter which of them comes first.
#[test]
fn a_cgroup_that_comes_inside_or_around_one_of_its_app_is_translated_once() {
    let scene = Scene::new(1);
    let parent = scene.app.cgroup.relative();
    let text = table(&[("shop", &format!("{parent}/shop-*/inner"), &list([0]), "")]);
    let mut run = scene.vipnat.follow(&text, &[]);
    let outer = scene.app.cgroup.child("shop-1");
    scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", outer.relative()]);
    let inner = App { host: scene.app.host.clone(), cgroup: outer.child("inner") };
    assert_eq!(run.says_meanwhile(QUIET), [""; 0]);
    let report = inner.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.ok, report.peer()), (true, format!("{DB}:{PORT}").as_str()), "{report:?}");
    drop((inner, outer));

    // Here the inner cgroup is attached first, since `run` is late.
    let text = table(&[("shop", &format!("{parent}/shop-*"), &list([0]), "")]);
    scene.vipnat.replace_table(&text);
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.starts_with("- app shop in a cgroup that is gone"));
    stop(&scene, &run);
    let outer = scene.app.cgroup.child("shop-2");
    let inner = App { host: scene.app.host.clone(), cgroup: outer.child("inner") };
    scene.vipnat.ok(["attach", "--app", "shop", "--cgroup", inner.cgroup.relative()]);
    run.signal(Signal::SIGCONT);
    run.wait_for(|line| line == format!("+ app shop in cgroup {}", outer.relative()));
    let report = inner.probe(&format!("tcp {DB}:{PORT}"));
    assert_eq!((report.ok, report.peer()), (true, format!("{DB}:{PORT}").as_str()), "{report:?}");
}

/// A hook may attach a cgroup before `run`, whose pattern matches it too.
#[test]
fn what_a_hook_attached_first_stays_by_hand_and_is_forgotten_when_it_goes() {
    let scene = Scene::new(2);
    let pattern = format!("{}/c-*", scene.app.cgroup.relative());
    let special = table(&[("special", "x", &list([1]), "")]).replace("cgroup = \"x\"\n", "");
    let text = special + &table(&[("general", &pattern, &list([0]), "")]);
    let mut run = scene.vipnat.follow(&text, &[]);
    for round in 0..3 {
        stop(&scene, &run);
        let cgroup = scene.app.cgroup.child("c-1");
        let container = App { host: scene.app.host.clone(), cgroup };
        let cgroup = container.cgroup.relative();
        scene.vipnat.ok(["attach", "--app", "special", "--cgroup", cgroup]);
        run.signal(Signal::SIGCONT);
        assert_eq!(run.says_meanwhile(QUIET), [""; 0], "round {round}");
        let report = container.probe(&format!("tcp {DB}:{PORT}"));
        assert_eq!((banner(&report), report.peer()), ("1".to_owned(), &*format!("{DB}:{PORT}")));
        drop(container);
        run.wait_for(|line| line.starts_with("- app special in a cgroup that is gone"));
        assert!(!scene.vipnat.ok(["list"]).contains("by hand"));
    }
}

#[test]
fn each_contested_cgroup_is_said_once_while_others_are_attached() {
    let scene = Scene::new(2);
    let parent = scene.app.cgroup.relative();
    let (first, second) = (format!("{parent}/x-*"), format!("{parent}/*-x"));
    let apps = [("shop", first.as_str(), &*list([0]), ""), ("blog", &second, &list([1]), "")];
    let mut run = scene.vipnat.follow(&table(&apps), &[]);
    for name in ["x-1-x", "x-2-x"] {
        let contested = scene.app.cgroup.child(name);
        run.wait_for(|line| line.contains(&format!("{name}, so no app gets it")));
        drop(contested);
    }
    let _clear = scene.app.cgroup.child("x-1");
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    let claimed = |line: &str| line.contains("so no app gets it");
    assert!(!run.says_meanwhile(QUIET).iter().any(|line| claimed(line)));
}

/// vipnat once looked for the cgroups of a table before it locked the state. It then released cgroups that
/// were attached meanwhile.
#[test]
fn what_another_apply_attached_while_one_waited_stays_attached() {
    let scene = Scene::new(1);
    let parent = scene.app.cgroup.relative();
    let text = table(&[("shop", &format!("{parent}/shop-*"), &list([0]), "")]);
    scene.vipnat.apply(&text);
    let file = scene.vipnat.table(&text);
    let state = File::open(scene.vipnat.bpffs()).unwrap();
    let lock = Flock::lock(state, FlockArg::LockExclusive).unwrap();
    let mut waiting = Following::start(scene.vipnat.command(["apply".as_ref(), file.as_os_str()]));
    waiting.wait_for(|line| line.contains("waiting for another vipnat"));
    waiting.signal(Signal::SIGSTOP);
    let stat = || fs::read_to_string(format!("/proc/{}/stat", waiting.pid())).unwrap();
    while !stat().rsplit(") ").next().unwrap().starts_with('T') {
        sleep(Duration::from_millis(5));
    }
    drop(lock);
    let came = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-1") };
    let applied = scene.vipnat.apply(&text);
    assert!(applied.starts_with("+ app shop in cgroup "), "{applied}");
    waiting.signal(Signal::SIGCONT);
    waiting.wait_for(|line| line == "nothing to change");
    assert!(waiting.ends().success());
    assert_eq!(banner(&came.probe(&format!("tcp {DB}:{PORT}"))), "0");
}
