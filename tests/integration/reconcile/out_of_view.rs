//! Cgroups that vipnat can't see are not gone: their links stay.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    iter,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use nix::sys::signal::Signal;
use vipnat_testkit::{App, CommandExt as _, Following, outcome};

use crate::{
    hidden::{after, all_are_translated, mount, run_after, text, with_containers},
    scene::{DB, PORT, Scene, banner},
};

/// Each way to see only a part of the hierarchy, and the message about it.
const HIDDEN: [(&str, &str); 4] = [
    ("mount -t tmpfs none $1", "hidden by a mount of type tmpfs; unmount that: umount "),
    (
        "mount -t cgroup2 none $2; mount -t tmpfs none $2; mount -t tmpfs none $1",
        "hidden by a mount",
    ),
    ("mount --bind $1/$NAME $2; umount -l $1 || mount -t tmpfs none $1", "shows a part only, /"),
    ("umount -l $1 2>/dev/null || :; while umount -l $1 2>/dev/null; do :; done", "is not mounted"),
];

#[test]
fn living_cgroups_whose_mount_is_hidden_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    for (script, said) in HIDDEN {
        let script = format!("NAME={}; {script}", scene.app.cgroup.relative());
        for verb in [&["apply"][..], &["apply", "--dry-run"], &["run"]] {
            let mut arguments: Vec<&OsStr> = verb.iter().map(OsStr::new).collect();
            arguments.push(file.as_os_str());
            if verb == ["run"] {
                let mut run = Following::start(after(&scene, &script, &arguments));
                run.wait_for(|line| line.contains(said));
                continue;
            }
            let refused = run_after(&scene, &script, &arguments);
            assert_eq!(refused.code(), Some(1), "{script}: {refused}");
            assert!(refused.stderr.contains(said), "{script}: {refused}");
            assert_eq!(refused.stdout, "", "{script}: {refused}");
        }
        all_are_translated(&containers);
        // `list` shows them, but not as gone. `flush` still removes everything.
        let listed = run_after(&scene, &script, &["list".as_ref()]);
        assert!(listed.status.success(), "{script}: {listed}");
        assert!(!listed.stdout.contains("gone"), "{script}: {listed}");
        assert!(listed.stderr.contains("not in view"), "{script}: {listed}");
    }
    assert_eq!(scene.vipnat.apply(&text(&scene)), "nothing to change\n");
    let flushed = run_after(&scene, HIDDEN[0].0, &["flush".as_ref()]);
    assert_eq!(flushed.stdout, "removed everything\n", "{flushed}");
}

#[test]
fn living_cgroups_outside_of_an_own_cgroup_namespace_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let script = "umount -l $1 2>/dev/null || mount -t tmpfs none $1; mount -t cgroup2 none $1";
    // In that namespace its path is `other`; for the machine it is `shop-1/other`.
    let other = containers[0].cgroup.child("other");
    let attach = ["attach", "--app", "manual", "--cgroup", "other"].map(OsStr::new);
    for arguments in [&["apply".as_ref(), file.as_os_str()][..], &attach] {
        let command = after(&scene, script, arguments);
        let mut inside = Command::new("unshare");
        inside.arg("--cgroup").arg(command.get_program()).args(command.get_args());
        let refused = outcome(inside.in_cgroup(&containers[0].cgroup));
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains("this is a cgroup namespace"), "{refused}");
        assert_eq!(refused.stdout, "", "{refused}");
        all_are_translated(&containers);
    }
    drop(other);
}

#[test]
fn a_second_mount_serves_where_the_first_is_hidden() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let script = "mount -t cgroup2 none $2; mount -t tmpfs none $1";
    let applied = run_after(&scene, script, &["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.stdout, "nothing to change\n", "{applied}");
    // The same if a mount that shows only a part comes first.
    let script = "mount -t cgroup2 none $2; mount -t tmpfs none $1; mkdir $1/a; \
                  mount --bind $2/$NAME $1/a";
    let script = format!("NAME={}; {script}", scene.app.cgroup.relative());
    let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
    assert_eq!(applied.stdout, "nothing to change\n", "{applied}");
    all_are_translated(&containers);
}

#[test]
fn living_cgroups_below_a_directory_that_is_hidden_stay_attached() {
    let (scene, containers) = with_containers();
    let (name, file) = (scene.app.cgroup.relative(), scene.vipnat.table(&text(&scene)));
    // The same if the hiding mount has directories of the same names.
    for inside in ["", "; mkdir $1/$NAME/shop-1 $1/$NAME/shop-2"] {
        let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME{inside}");
        let refused = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
        assert_eq!(refused.code(), Some(1), "{refused}");
        let said = format!("{name} is hidden by another mount; unmount that");
        assert!(refused.stderr.contains(&said), "{refused}");
        all_are_translated(&containers);
        // `run` goes on with the cgroups in view, and leaves the others alone.
        let mut run = Following::start(after(&scene, &script, &["run".as_ref(), file.as_os_str()]));
        run.wait_for(|line| line.starts_with("following "));
        for said in
            ["app \"shop\": cannot tell which of the cgroups", "app \"manual\" stays attached"]
        {
            if !run.has_said(|line| line.contains(said)) {
                run.wait_for(|line| line.contains(said));
            }
        }
        assert!(!run.has_said(|line| line.starts_with("- ")));
        all_are_translated(&containers);
    }
    // If the table gives an app no cgroups, none of them can be hidden.
    let manual = text(&scene).replace("cgroup = ", "# ");
    let file = scene.vipnat.table(&manual);
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
    assert!(applied.status.success(), "{applied}");
    // The table takes a cgroup away, even if the cgroup is not in view.
    assert!(applied.stdout.starts_with("- app shop in the cgroup whose id is "), "{applied}");
    assert!(applied.stderr.contains("app \"manual\" stays attached"), "{applied}");
    let manual = banner(&containers[1].probe(&format!("tcp {DB}:{PORT}")));
    assert_eq!(manual, "0");
    assert_eq!(containers[0].probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
}

#[test]
fn living_cgroups_below_a_directory_that_can_not_be_read_stay_attached() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let outer = scene.app.cgroup.path();
    fs::set_permissions(outer, Permissions::from_mode(0o0)).unwrap();
    let without = "--bounding-set=-dac_override,-dac_read_search";
    let apply = scene.vipnat.command(["apply".as_ref(), file.as_os_str()]);
    let mut limited = Command::new("setpriv");
    limited.arg(without).arg(apply.get_program()).args(apply.get_args());
    let refused = outcome(&mut limited);
    fs::set_permissions(outer, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("Permission denied"), "{refused}");
    all_are_translated(&containers);
}

/// Changes the view of a process: runs a command in its mount namespace, with a path as its last argument.
fn inside(run: &Following, arguments: &[&str], at: &Path) {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--mount", "--target", &run.pid().to_string()]).args(arguments).arg(at);
    let done = outcome(&mut nsenter);
    assert!(done.status.success(), "{done}");
}

#[test]
fn run_sees_that_its_view_was_hidden_and_keeps_what_it_no_longer_sees() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let mut run = Following::start(after(&scene, ":", &["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    // Hide a part of it: `run` still gets events there, and reports that it can't see the cgroup.
    inside(&run, &["mount", "-t", "tmpfs", "none"], scene.app.cgroup.path());
    let new = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-2") };
    run.wait_for(|line| line.contains("is hidden by another mount"));
    all_are_translated(&containers);
    // Hide all of it.
    inside(&run, &["mount", "-t", "tmpfs", "none"], mount(&scene));
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("hidden by a mount of type tmpfs"));
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
    // Show everything again.
    inside(&run, &["umount"], mount(&scene));
    inside(&run, &["umount"], scene.app.cgroup.path());
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.starts_with("+ app shop in cgroup"));
    assert_eq!(banner(&new.probe(&format!("tcp {DB}:{PORT}"))), "0");
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
}

#[test]
fn run_is_not_deceived_by_a_mount_that_has_the_number_of_the_one_before() {
    let (scene, containers) = with_containers();
    let file = scene.vipnat.table(&text(&scene));
    let mut run = Following::start(after(&scene, ":", &["run".as_ref(), file.as_os_str()]));
    run.wait_for(|line| line.starts_with("following "));
    // The kernel gives the lowest free number to a new mount.
    let instead = "umount -l $0; mount -t tmpfs none $0";
    inside(&run, &["sh", "-ec", instead], mount(&scene));
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("cgroup v2 is not mounted"));
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
}

#[test]
fn what_a_table_may_still_mean_stays_attached_while_it_is_hidden() {
    let (scene, containers) = with_containers();
    let name = scene.app.cgroup.relative();
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME/shop-1");
    let apply = |cgroup: &str| {
        let pattern = format!("cgroup = \"{name}/shop-*\"");
        let text = text(&scene).replace(&pattern, &format!("cgroup = \"{name}/{cgroup}\""));
        let file = scene.vipnat.table(&text);
        let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
        assert!(applied.status.success(), "{applied}");
        applied
    };
    // The cgroup may have been in view for the pattern, but it is not when vipnat would release it.
    let applied = apply("*-2");
    assert!(applied.stderr.contains("app \"shop\" stays attached to the cgroup"), "{applied}");
    assert!(!applied.stdout.contains("- app"), "{applied}");
    all_are_translated(&containers);
    // If vipnat finds the cgroup of a path, there are no others.
    let other = scene.app.cgroup.child("other");
    let applied = apply("other");
    assert!(applied.stdout.contains("- app shop in the cgroup whose id is "), "{applied}");
    assert_eq!(containers[0].probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
    drop(other);
}

/// Detaches the links of an app on a cgroup, as the end of the cgroup does. The pins stay.
fn detach_links(scene: &Scene, container: &App) {
    let id = fs::metadata(container.cgroup.path()).unwrap().ino();
    let apps = fs::read_dir(scene.vipnat.bpffs().join("apps")).unwrap();
    let mut links = apps.flat_map(|app| {
        let app = app.unwrap().path();
        [app.join(format!("+{id}")), app.join(id.to_string())]
    });
    let links = links.find(|links| links.exists()).unwrap();
    for pin in fs::read_dir(links).unwrap() {
        let mut detach = Command::new("bpftool");
        let done = outcome(detach.args(["link", "detach", "pinned"]).arg(pin.unwrap().path()));
        assert!(done.status.success(), "{done}");
    }
}

#[test]
fn a_living_cgroup_whose_links_were_detached_is_not_gone() {
    let (scene, containers) = with_containers();
    let (name, text) = (scene.app.cgroup.relative(), text(&scene));
    let probe = format!("tcp {DB}:{PORT}");
    containers.iter().for_each(|container| detach_links(&scene, container));
    assert_eq!(containers[1].probe(&probe).error(), "ENETUNREACH");
    // While it is hidden, it is not in view.
    let file = scene.vipnat.table(&text.replace("cgroup = ", "# "));
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let hidden = run_after(&scene, &script, &["list".as_ref()]);
    assert!(hidden.stdout.contains("which is not in view"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    let hidden =
        run_after(&scene, &script, &["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    assert!(hidden.stderr.contains("app \"manual\" stays attached"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    // If the app is attached to another cgroup, this one keeps its links.
    let other = scene.app.cgroup.child("manual-2");
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", other.relative()]);
    let applied = scene.vipnat.apply(&text);
    for (app, container) in iter::zip(["shop", "manual"], &containers) {
        let said = format!("+ app {app} in cgroup {}\n", container.cgroup.relative());
        assert!(applied.contains(&said), "{applied}");
    }
    all_are_translated(&containers);
    // If the other cgroup is gone, vipnat removes its links.
    let pins = || {
        let apps = fs::read_dir(scene.vipnat.bpffs().join("apps")).unwrap();
        apps.map(|app| fs::read_dir(app.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    assert_eq!(pins(), 3);
    detach_links(&scene, &App { host: scene.app.host.clone(), cgroup: other });
    let third = scene.app.cgroup.child("manual-3");
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", third.relative()]);
    assert_eq!(pins(), 3);
    assert_eq!(scene.vipnat.apply(&text), "nothing to change\n");
}
