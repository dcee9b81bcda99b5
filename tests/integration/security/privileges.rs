//! The fewest privileges with which each command works, and its message if one of them is missing.
//!
//! `docs/privileges.md` has the same as a table.

use std::{
    ffi::OsStr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use vipnat_testkit::{App, Following, Outcome, Vipnat, copy_program, outcome, program};

use crate::scene::{DB, PORT, Scene, banner, list, table};

/// Runs vipnat as user 0 with only these capabilities, under their names in setpriv(1).
fn limited(vipnat: &Vipnat, capabilities: &[&str], arguments: &[&OsStr]) -> Command {
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let vipnat = vipnat.command(arguments);
    let mut command = Command::new("setpriv");
    command.args([format!("--bounding-set=-all{set}"), format!("--inh-caps=-all{set}")]);
    command.arg(vipnat.get_program()).args(vipnat.get_args());
    command
}

/// Runs such a command to its end.
fn run(vipnat: &Vipnat, capabilities: &[&str], arguments: &[&OsStr]) -> Outcome {
    outcome(&mut limited(vipnat, capabilities, arguments))
}

/// Checks that vipnat fails if any one of these is missing, and names it.
#[track_caller]
fn fails_without_any(vipnat: &Vipnat, capabilities: &[&str], arguments: &[&OsStr]) {
    for missing in capabilities {
        let rest: Vec<_> = capabilities.iter().copied().filter(|name| name != missing).collect();
        let outcome = run(vipnat, &rest, arguments);
        assert_eq!(outcome.code(), Some(1), "without {missing}: {outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "without {missing}: {outcome}");
        let named = format!("vipnat needs CAP_{};", missing.to_uppercase());
        assert!(outcome.stderr.contains(&named), "without {missing}: {outcome}");
    }
}

/// Checks the same, and that vipnat succeeds with all of them. Returns its output.
#[track_caller]
fn least(vipnat: &Vipnat, capabilities: &[&str], arguments: &[&OsStr]) -> String {
    fails_without_any(vipnat, capabilities, arguments);
    let outcome = run(vipnat, capabilities, arguments);
    assert!(outcome.status.success(), "with {capabilities:?}: {outcome}");
    outcome.stdout
}

#[test]
fn the_first_apply_loads_programs_and_a_change_waits_for_them() {
    let scene = Scene::new(2);
    let apply = |backends: &[u8], capabilities: &[&str]| {
        let file = scene.vipnat.table(&scene.table(&list(backends.iter().copied())));
        least(&scene.vipnat, capabilities, &["apply".as_ref(), file.as_os_str()])
    };
    assert!(apply(&[0], &["bpf", "perfmon", "net_admin"]).contains("+ app shop"));
    assert_eq!(scene.who(), "0");
    assert!(apply(&[1], &["bpf"]).contains("~ shop db"));
    assert_eq!(scene.who(), "1");
    assert_eq!(apply(&[1], &["bpf"]), "nothing to change\n");
    // CAP_SYS_ADMIN includes the capabilities to load programs.
    scene.vipnat.ok(["flush"]);
    assert!(apply_with(&scene, &["sys_admin"]).status.success());
    assert_eq!(scene.who(), "0");
}

fn apply_with(scene: &Scene, capabilities: &[&str]) -> Outcome {
    let file = scene.vipnat.table(&scene.table(&list([0])));
    run(&scene.vipnat, capabilities, &["apply".as_ref(), file.as_os_str()])
}

#[test]
fn following_a_table_needs_what_its_first_apply_does() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let (all, arguments) = (["bpf", "perfmon", "net_admin"], ["run".as_ref(), file.as_os_str()]);
    fails_without_any(&scene.vipnat, &all, &arguments);
    let mut run = Following::start(limited(&scene.vipnat, &all, &arguments));
    run.wait_for(|line| line.starts_with("following "));
    assert_eq!(scene.who(), "0");
}

#[test]
fn taking_over_another_builds_state_loads_programs_again() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let arguments = ["apply".as_ref(), file.as_os_str()];
    let mut other = Command::new(program("vipnat-other-build"));
    let other = outcome(other.arg("--bpffs").arg(scene.vipnat.bpffs()).args(arguments));
    assert!(other.status.success(), "{other}");
    least(&scene.vipnat, &["bpf", "perfmon", "net_admin"], &arguments);
    assert_eq!(least(&scene.vipnat, &["bpf"], &arguments), "nothing to change\n");
    assert_eq!(scene.who(), "0");
}

/// Without any one of them, vipnat still makes the change. The connections stay, and it reports them.
#[test]
fn ending_connections_needs_to_enter_the_networks_of_containers() {
    let scene = Scene::new(2);
    let enough = ["sys_admin", "sys_ptrace", "net_admin"];
    let without = |missing| enough.iter().copied().filter(|name| *name != missing).collect();
    let sets: [Vec<&str>; 5] = [
        enough.to_vec(),
        without("sys_admin"),
        without("sys_ptrace"),
        without("net_admin"),
        vec!["bpf", "sys_ptrace", "net_admin"],
    ];
    for (number, capabilities) in sets.iter().enumerate() {
        let policy = "on-backend-removed = \"kill\"\nbackends =";
        let text = |backend| scene.table(&list([backend])).replace("backends =", policy);
        scene.vipnat.apply(&text(0));
        let _held = scene.app.hold(&format!("{DB}:{PORT}"));
        // The change itself needs CAP_BPF too.
        let with_bpf = [capabilities.as_slice(), &["bpf"]].concat();
        let file = scene.vipnat.table(&text(1));
        let applied = run(&scene.vipnat, &with_bpf, &["apply".as_ref(), file.as_os_str()]);
        assert!(applied.status.success(), "{with_bpf:?}: {applied}");
        assert!(applied.stdout.contains("~ shop db"), "{with_bpf:?}: {applied}");
        let ended = applied.stdout.contains("ended 1 connection");
        assert_eq!(ended, number == 0, "{with_bpf:?}: {applied}");
        let told = [" stay: ", "could not end"].iter().any(|what| applied.stderr.contains(what));
        assert_eq!(told, number != 0, "{with_bpf:?}: {applied}");
    }
}

/// A `run` that can't end connections tries again at each full check. It once reported that each time.
#[test]
fn a_run_that_can_not_end_connections_says_so_once() {
    let scene = Scene::new(2);
    let policy = "on-backend-removed = \"kill\"\nbackends =";
    let text = |backend| scene.table(&list([backend])).replace("backends =", policy);
    scene.vipnat.apply(&text(0));
    let file = scene.vipnat.table(&text(0));
    let _held = scene.app.hold(&format!("{DB}:{PORT}"));
    // All capabilities except CAP_NET_ADMIN.
    let enough = ["bpf", "perfmon", "sys_admin", "sys_ptrace"];
    let mut run =
        Following::start(limited(&scene.vipnat, &enough, &["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    scene.vipnat.replace_table(&text(1));
    let told = |line: &str| line.contains("could not end connections");
    run.wait_for(told);
    for app in ["one", "two"] {
        scene.vipnat.replace_table(&format!("{}[apps.{app}]\n", text(1)));
        run.wait_for(|line| line.contains(&format!("app {app}")));
    }
    assert!(!run.says_meanwhile(Duration::from_millis(300)).iter().any(|line| told(line)));
    run.signal(Signal::SIGTERM);
    assert!(run.ends().success());
    assert_eq!(run.count_said(told), 1);
}

/// Attaching needs no capability: opening the program's pin and the cgroup is permission enough.
#[test]
fn attaching_another_app_needs_no_more_than_a_change() {
    let scene = Scene::new(2);
    scene.apply_first(1);
    let other = App::new(scene.app.host.clone());
    let file = scene.vipnat.table(&table(&[
        ("shop", scene.app.cgroup.relative(), &list([0]), ""),
        ("blog", other.cgroup.relative(), &list([1]), ""),
    ]));
    let printed = least(&scene.vipnat, &["bpf"], &["apply".as_ref(), file.as_os_str()]);
    assert!(printed.contains("+ app blog"), "{printed}");
    let flush = ["flush", "--app", "blog"].map(OsStr::new);
    assert_eq!(least(&scene.vipnat, &["bpf"], &flush), "- app blog\n");
    assert_eq!(scene.who(), "0");
}

/// Pins are files, so their owner may open and remove them.
#[test]
fn looking_attaching_entering_and_removing_need_nothing_but_the_owner_of_the_pins() {
    let scene = Scene::new(1);
    let none = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
        least(&scene.vipnat, &[], &arguments)
    };
    assert_eq!(none(&["flush"]), "nothing to remove\n");
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let file = file.to_str().unwrap();
    assert!(none(&["apply", "--dry-run", file]).contains("+ app shop"));
    scene.apply_first(1);
    assert!(none(&["list"]).contains("shop"));
    let entered = none(&["exec", "--app", "shop", "--", "cat", "/proc/self/cgroup"]);
    assert!(entered.contains(scene.app.cgroup.relative()), "{entered}");
    let by_hand = App::new(scene.app.host.clone());
    let attach = ["attach", "--app", "shop", "--cgroup", by_hand.cgroup.relative()];
    assert!(none(&attach).contains("+ app shop"));
    assert_eq!(banner(&by_hand.probe(&format!("tcp {DB}:{PORT}"))), "0");
    assert_eq!(none(&["flush"]), "removed everything\n");
    assert!(!scene.vipnat.bpffs().exists());
}

/// For user 0, the files of a container's root belong to another user.
#[test]
fn entering_a_cgroup_that_was_given_away_needs_cap_dac_override() {
    let scene = Scene::new(0);
    scene.vipnat.apply(&scene.table("[]"));
    chown(scene.app.cgroup.path().join("cgroup.procs"), Some(100_000), Some(100_000)).unwrap();
    let exec = ["exec", "--app", "shop", "--", "true"].map(OsStr::new);
    let outcome = run(&scene.vipnat, &[], &exec);
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert!(outcome.stderr.contains("cannot enter the cgroup"), "{outcome}");
    assert!(outcome.stderr.contains("Permission denied"), "{outcome}");
    assert!(run(&scene.vipnat, &["dac_override"], &exec).status.success());
}

#[test]
fn a_user_who_is_nobody_may_ask_for_what_needs_no_kernel() {
    let scene = Scene::new(0);
    scene.apply_first(0);
    let file = scene.vipnat.table(&scene.table("[]"));
    let vipnat = readable(&scene, &file);
    let file = file.to_str().unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&vipnat);
        outcome(command.arg("--bpffs").arg(scene.vipnat.bpffs()).args(arguments))
    };
    for arguments in [
        &["check", file][..],
        &["vip", "db"],
        &["env", file, "--app", "shop"],
        &["export", "nft", file, "--app", "shop"],
    ] {
        let outcome = nobody(arguments);
        assert!(outcome.status.success(), "{arguments:?}: {outcome}");
    }
    for arguments in [
        &["list"][..],
        &["flush"],
        &["exec", "--app", "shop", "--", "true"],
        &["apply", "--dry-run", file],
        &["apply", file],
        &["flush", "--app", "shop"],
    ] {
        let outcome = nobody(arguments);
        assert_eq!(outcome.code(), Some(1), "{arguments:?}: {outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{arguments:?}: {outcome}");
        assert!(outcome.stderr.contains("missing privileges: "), "{arguments:?}: {outcome}");
        assert!(outcome.stderr.contains("as root"), "{arguments:?}: {outcome}");
    }
}

/// A copy of the program in a place where every user can run it.
fn readable(scene: &Scene, table: &Path) -> PathBuf {
    let copy = table.with_file_name("vipnat");
    copy_program(Path::new(scene.vipnat.command([""]).get_program()), &copy);
    copy
}
