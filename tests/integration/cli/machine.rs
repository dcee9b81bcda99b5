//! vipnat makes and guards its state directory, and leaves the programs of other tools alone.

use std::{
    env,
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    process::Command,
};

use vipnat_testkit::{
    bpf::{self, EmptyProgram, HOOKS},
    outcome,
};

use crate::scene::{Scene, list};

#[test]
fn bpffs_is_mounted_if_it_is_not() {
    // This mount namespace has nothing at /sys/fs/bpf, even if several mounts were there.
    let scene = Scene::new(0);
    let file = scene.vipnat.table(&scene.table(&list([0])));
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let script = "mount -t bpf none /sys/fs/bpf && \
                  while umount -l /sys/fs/bpf 2>/dev/null; do :; done; \
                  ! grep -q ' /sys/fs/bpf ' /proc/self/mounts && \"$@\" && \
                  grep ' /sys/fs/bpf bpf ' /proc/self/mounts && stat -c 'mode %a' /sys/fs/bpf && \
                  \"$1\" \"$2\" \"$3\" flush";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(apply.get_program()).args(apply.get_args());
    let outcome = outcome(&mut command);
    assert!(outcome.status.success(), "{outcome}");
    assert!(outcome.stdout.contains("+ app shop"), "{outcome}");
    // Without a mode, every user could make directories there.
    assert!(outcome.stdout.contains("mode 1700\n"), "{outcome}");
}

#[test]
fn tests_do_not_depend_on_who_starts_them() {
    // The starter has another umask, and its service manager waits for messages of the started process.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut tests = Command::new("sh");
    tests.args(["-c", "umask 077 && exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    tests.args(["--exact", "daemon::follow::a_dry_run_beside_run_waits_for_cgroups_as_that_does"]);
    tests.arg("security::privileges::a_user_who_is_nobody_may_ask_for_what_needs_no_kernel");
    tests.arg("security::intruder::routes_and_rules_of_a_container_lead_to_no_backend_of_another");
    let run = outcome(tests.env("NOTIFY_SOCKET", &socket));
    assert!(run.stdout.contains("test result: ok. 3 passed"), "{run}");
    let heard = manager.recv(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(heard, Err(io::ErrorKind::WouldBlock));
}

#[test]
fn the_state_directory_is_for_root_alone() {
    let scene = Scene::new(0);
    scene.vipnat.apply(&scene.table("[]"));
    let mode = scene.vipnat.bpffs().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // The same for a directory that existed before.
    let scene = Scene::new(0);
    fs::create_dir(scene.vipnat.bpffs()).unwrap();
    fs::set_permissions(scene.vipnat.bpffs(), Permissions::from_mode(0o755)).unwrap();
    scene.vipnat.apply(&scene.table("[]"));
    let mode = scene.vipnat.bpffs().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// The owner of such a directory could move the links away later.
#[test]
fn a_state_directory_that_others_can_change_is_refused() {
    let scene = Scene::new(0);
    let state = scene.vipnat.bpffs();
    let text = scene.table("[]");
    for (owner, mode) in [(100_000, 0o700), (0, 0o770), (0, 0o707)] {
        fs::create_dir(state).unwrap();
        chown(state, Some(owner), None).unwrap();
        fs::set_permissions(state, Permissions::from_mode(mode)).unwrap();
        let said = scene.vipnat.apply_fails(&text, 1);
        assert!(said.contains("can be changed by others than root"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        fs::remove_dir(state).expect("nothing was made in it");
    }
    scene.vipnat.apply(&text);
}

#[test]
fn programs_of_others_on_the_same_cgroup_stay() {
    let scene = Scene::new(1);
    let cgroup = scene.app.cgroup.path();
    let connect4 = HOOKS.iter().find(|(name, _)| *name == "connect4").unwrap();
    let [first, second] = [(); 2].map(|()| EmptyProgram::attach(cgroup, connect4.1).unwrap());
    scene.apply_first(1);
    assert_eq!(bpf::attached(cgroup), 7 + 2);
    assert_eq!(scene.who(), "0");
    drop(second);
    assert_eq!(scene.apply_first(1), "nothing to change\n");
    scene.vipnat.ok(["flush"]);
    assert_eq!(bpf::attached(cgroup), 1);
    scene.apply_first(1);
    drop(first);
    assert_eq!(scene.who(), "0");
}
