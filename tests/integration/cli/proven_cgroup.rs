//! `attach` and `exec` use a cgroup only if it proves to hold the process.

use std::{ffi::OsStr, fs, process::Command};

use vipnat_testkit::{App, Cgroup, CommandExt as _, outcome};

use crate::{
    hidden::{run_after, text, with_containers},
    scene::Scene,
};

#[test]
fn attach_by_a_process_takes_only_a_cgroup_that_proves_to_hold_it() {
    let scene = Scene::new(1);
    let (name, text) = (scene.app.cgroup.relative().to_owned(), text(&scene));
    scene.vipnat.apply(&text);
    // In the namespace of `outer`, the process is in `/inner`. On the mount, that path is another cgroup.
    let app = |cgroup| App { host: scene.app.host.clone(), cgroup };
    let outer = app(scene.app.cgroup.child("outer"));
    let inner = app(outer.cgroup.child(&format!("{name}-x")));
    let other = Cgroup::new();
    let namesake = scene.app.cgroup.path().parent().unwrap().join(format!("{name}-x"));
    fs::create_dir(&namesake).unwrap();
    let mut sleeping = inner.command("sleep").arg("60").spawn().unwrap();
    let pid = sleeping.id().to_string();
    let attach = |namespaces: &[&str]| {
        let attach = scene.vipnat.command(["attach", "--app", "manual", "--pid", &pid]);
        let mut command = Command::new("unshare");
        command.args(namespaces).arg(attach.get_program()).args(attach.get_args());
        outcome(command.in_cgroup(&outer.cgroup))
    };
    let refused = attach(&["--cgroup"]);
    let ours = attach(&["--mount"]);
    // The same in a namespace that has other process numbers.
    let pids = attach(&["--pid", "--fork"]);
    fs::remove_dir(&namesake).unwrap();
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains(&format!("process {pid} is not in the cgroup")), "{refused}");
    assert!(refused.stderr.contains("nsenter --target 1 --cgroup"), "{refused}");
    assert_eq!(pids.code(), Some(1), "{pids}");
    assert!(pids.stderr.contains("is not in the cgroup"), "{pids}");
    let inner = inner.cgroup.relative();
    assert_eq!(ours.stdout, format!("+ app manual in cgroup {inner}\n"), "{ours}");
    drop(other);
}

#[test]
fn exec_goes_into_a_cgroup_that_proves_to_have_taken_it() {
    let (scene, containers) = with_containers();
    let name = scene.app.cgroup.relative();
    // Without the check, vipnat would write to a file of that name, and run the command in its old cgroup.
    let script = format!("NAME={name}; mount -t tmpfs none $1/$NAME; mkdir $1/$NAME/manual");
    let manual = containers[1].cgroup.path().as_os_str();
    let options = ["exec", "--app", "manual", "--cgroup"].map(OsStr::new);
    let command = ["--", "echo", "it ran"].map(OsStr::new);
    let arguments = |cgroup| [&options[..], &[cgroup], &command].concat();
    let hidden = run_after(&scene, &script, &arguments(manual));
    assert_eq!((hidden.code(), hidden.stdout.as_str()), (Some(1), ""), "{hidden}");
    let elsewhere = tempfile::tempdir().unwrap();
    let table = scene.vipnat.table(&text(&scene));
    let with_table = |cgroup: &OsStr| {
        let app = ["exec".as_ref(), "--app".as_ref(), "shop".as_ref(), table.as_os_str()];
        scene.vipnat.run([&app[..], &["--cgroup".as_ref(), cgroup], &command].concat())
    };
    for outcome in [
        scene.vipnat.run(arguments(elsewhere.path().as_os_str())),
        with_table(elsewhere.path().as_os_str()),
        with_table(manual),
    ] {
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(1), ""), "{outcome}");
        assert!(outcome.stderr.contains("is not app "), "{outcome}");
    }
    assert!(!elsewhere.path().join("cgroup.procs").exists());
    let inside = scene.vipnat.run(arguments(manual));
    assert_eq!(inside.stdout, "it ran\n", "{inside}");
    assert_eq!(with_table(containers[0].cgroup.path().as_os_str()).stdout, "it ran\n");
}

/// `exec` once reported that the cgroups were gone.
#[test]
fn exec_says_that_the_cgroups_of_an_app_are_not_in_view() {
    let (scene, _containers) = with_containers();
    let script = format!("mount -t tmpfs none $1/{}", scene.app.cgroup.relative());
    let exec = ["exec", "--app", "shop", "--", "echo", "it ran"].map(OsStr::new);
    let hidden = run_after(&scene, &script, &exec);
    assert_eq!((hidden.code(), hidden.stdout.as_str()), (Some(1), ""), "{hidden}");
    for said in ["cgroups that are not in view: ", "is hidden by another mount"] {
        assert!(hidden.stderr.contains(said), "{hidden}");
    }
    assert!(!hidden.stderr.contains("no living cgroup"), "{hidden}");
    assert_eq!(scene.vipnat.run(exec).stdout, "it ran\n");
}
