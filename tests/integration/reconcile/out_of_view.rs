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

/// Each way to see no more than a part of the hierarchy, and what is said of it.
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
        // They are listed all the same, but not as gone, and what is to go goes.
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
    // What is `other` there is `shop-1/other` to the machine.
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
    // Also one that shows less comes first.
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
    // Also where what hides them looks as if they were there.
    for inside in ["", "; mkdir $1/$NAME/shop-1 $1/$NAME/shop-2"] {
        let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME{inside}");
        let refused = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
        assert_eq!(refused.code(), Some(1), "{refused}");
        let said = format!("{name} is hidden by another mount; unmount that");
        assert!(refused.stderr.contains(&said), "{refused}");
        all_are_translated(&containers);
        // `run` goes on with what is in view, and leaves the rest alone.
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
    // An app without cgroups in the table has nothing that could be missed.
    let manual = text(&scene).replace("cgroup = ", "# ");
    let file = scene.vipnat.table(&manual);
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let applied = run_after(&scene, &script, &["apply".as_ref(), file.as_os_str()]);
    assert!(applied.status.success(), "{applied}");
    // The table takes a cgroup away, in view or not.
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

/// Changes what a process sees, by a command that is told where.
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
    // A part of it: that something comes there is told all the same, but not what.
    inside(&run, &["mount", "-t", "tmpfs", "none"], scene.app.cgroup.path());
    let new = App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child("shop-2") };
    run.wait_for(|line| line.contains("is hidden by another mount"));
    all_are_translated(&containers);
    // All of it.
    inside(&run, &["mount", "-t", "tmpfs", "none"], mount(&scene));
    run.signal(Signal::SIGHUP);
    run.wait_for(|line| line.contains("hidden by a mount of type tmpfs"));
    assert!(!run.has_said(|line| line.starts_with("- ")));
    all_are_translated(&containers);
    // And back again.
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
    // The kernel gives the lowest number that is free.
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
    // Whatever was seen of it when the pattern was looked for, it can't be seen when it is to go.
    let applied = apply("*-2");
    assert!(applied.stderr.contains("app \"shop\" stays attached to the cgroup"), "{applied}");
    assert!(!applied.stdout.contains("- app"), "{applied}");
    all_are_translated(&containers);
    // A path that is found is no other cgroup.
    let other = scene.app.cgroup.child("other");
    let applied = apply("other");
    assert!(applied.stdout.contains("- app shop in the cgroup whose id is "), "{applied}");
    assert_eq!(containers[0].probe(&format!("tcp {DB}:{PORT}")).error(), "ENETUNREACH");
    drop(other);
}

/// Detaches what an app has on a cgroup, as the death of the cgroup does. The pins stay.
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
    // Hidden, it is not in view.
    let file = scene.vipnat.table(&text.replace("cgroup = ", "# "));
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME");
    let hidden = run_after(&scene, &script, &["list".as_ref()]);
    assert!(hidden.stdout.contains("which is not in view"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    let hidden =
        run_after(&scene, &script, &["apply".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    assert!(hidden.stderr.contains("app \"manual\" stays attached"), "{hidden}");
    assert!(!hidden.stdout.contains("gone"), "{hidden}");
    // Another one that is attached to its app takes nothing from it.
    let other = scene.app.cgroup.child("manual-2");
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", other.relative()]);
    let applied = scene.vipnat.apply(&text);
    for (app, container) in iter::zip(["shop", "manual"], &containers) {
        let said = format!("+ app {app} in cgroup {}\n", container.cgroup.relative());
        assert!(applied.contains(&said), "{applied}");
    }
    all_are_translated(&containers);
    // Of one that is gone, it takes what is left.
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
