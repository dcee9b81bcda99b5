//! The machine around vipnat: mounts that are missing, tools that others use.

use std::process::Command;

use vipnat_tests::outcome;

use crate::scene::{Scene, list};

#[test]
fn bpffs_is_mounted_if_it_is_not() {
    // In a mount namespace of its own, where nothing is mounted at /sys/fs/bpf.
    let scene = Scene::new(0);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let script = "umount -l /sys/fs/bpf && ! grep -q ' /sys/fs/bpf ' /proc/self/mounts && \"$@\" && \
                  grep ' /sys/fs/bpf bpf ' /proc/self/mounts && \"$1\" \"$2\" \"$3\" flush";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(apply.get_program()).args(apply.get_args());
    let outcome = outcome(&mut command);
    assert!(outcome.status.success(), "{outcome}");
    assert!(outcome.stdout.contains("+ app shop"), "{outcome}");
}

#[test]
fn the_state_directory_is_for_root_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let scene = Scene::new(0);
    scene.vipnat.apply(&scene.table("[]"));
    let mode = scene.vipnat.bpffs().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn programs_of_others_on_the_same_cgroup_stay() {
    // Another instance stands for another program: it has its own links on the same cgroup.
    let scene = Scene::new(1);
    let other = Scene::new(0);
    scene.apply_first(1);
    let mine = || {
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["cgroup", "show"]).arg(scene.app.cgroup.path());
        outcome(&mut bpftool).stdout.lines().filter(|line| line.contains("connect4")).count()
    };
    assert_eq!(mine(), 1);
    other.vipnat.apply(&scene.table("[]").replace("relationships.db", "relationships.other"));
    assert_eq!(mine(), 2);
    assert_eq!(scene.who(), "0");
    other.vipnat.ok(["flush"]);
    assert_eq!(mine(), 1);
    assert_eq!(scene.who(), "0");
}

/// The verifier is stricter with programs of those who lack CAP_PERFMON.
#[test]
fn three_capabilities_are_enough() {
    let scene = Scene::new(1);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let caps = "-all,+bpf,+perfmon,+net_admin";
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let mut command = Command::new("setpriv");
    command.args([format!("--bounding-set={caps}"), format!("--inh-caps={caps}")]);
    command.arg(apply.get_program()).args(apply.get_args());
    let outcome = outcome(&mut command);
    assert!(outcome.status.success(), "{outcome}");
    assert_eq!(scene.who(), "0");
}
