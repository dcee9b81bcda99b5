//! Containers of two apps, and commands that see only a part of the cgroup hierarchy.

use std::{env, ffi::OsStr, fs, path::Path, process::Command};

use vipnat_testkit::{App, Outcome, outcome};

use crate::scene::{DB, PORT, Scene, banner, list};

/// The mount point of cgroup v2.
pub(crate) fn mount(scene: &Scene) -> &Path {
    scene.app.cgroup.path().parent().unwrap()
}

/// Runs vipnat in a mount namespace of its own, after a script. Its `$1` is the mount point of cgroup v2, and
/// `$2` is another directory.
pub(crate) fn after(scene: &Scene, script: &str, arguments: &[&OsStr]) -> Command {
    // The directory is beside the tables, and is removed with them.
    let elsewhere =
        env::temp_dir().join(scene.vipnat.bpffs().file_name().unwrap()).join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let vipnat = scene.vipnat.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{script}; shift 2; exec \"$@\""), "sh"]);
    command.args([mount(scene), &elsewhere]);
    command.arg(vipnat.get_program()).args(vipnat.get_args());
    command
}

pub(crate) fn run_after(scene: &Scene, script: &str, arguments: &[&OsStr]) -> Outcome {
    outcome(&mut after(scene, script, arguments))
}

/// A table in which `shop` has cgroups by a pattern, and `manual` only those that `attach` names.
pub(crate) fn text(scene: &Scene) -> String {
    let name = scene.app.cgroup.relative();
    format!(
        "[services.s]\nbackends = {}\n[apps.shop]\ncgroup = \"{name}/shop-*\"\n\
         [apps.shop.relationships.db]\nservice = \"s\"\n\
         [apps.manual]\n[apps.manual.relationships.db]\nservice = \"s\"\n",
        list([0])
    )
}

/// The scene with containers of both apps.
pub(crate) fn with_containers() -> (Scene, [App; 2]) {
    let scene = Scene::new(1);
    let containers = ["shop-1", "manual"]
        .map(|name| App { host: scene.app.host.clone(), cgroup: scene.app.cgroup.child(name) });
    scene.vipnat.apply(&text(&scene));
    let manual = containers[1].cgroup.relative();
    scene.vipnat.ok(["attach", "--app", "manual", "--cgroup", manual]);
    (scene, containers)
}

#[track_caller]
pub(crate) fn all_are_translated(containers: &[App; 2]) {
    for container in containers {
        assert_eq!(banner(&container.probe(&format!("tcp {DB}:{PORT}"))), "0");
    }
}
