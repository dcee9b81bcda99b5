//! The hooks of examples/hooks in runc, crun and LXC translate the first process of a container.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use vipnat_testkit::{Cgroup, Outcome, Report, copy_program, installed, not_run, outcome, program};

use crate::scene::{DB, PORT, Scene, list};

/// Runtimes look for cgroups directly in /sys/fs/cgroup. Nothing else is mounted there, so that they find
/// them on hybrid systems too, and make none in other hierarchies.
const UNIFIED: &str = "umount --recursive --lazy /sys/fs/cgroup && \
                       mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";

/// A container whose first process connects to `db`.
struct Container {
    files: TempDir,
    /// The cgroup in which the runtime makes the container's own.
    cgroup: Cgroup,
    scene: Scene,
}

impl Container {
    /// Applies its app, which has no cgroups but those that hooks attach.
    fn new() -> Self {
        let scene = Scene::new(1);
        let table = format!(
            "[services.s]\nbackends = {}\n[apps.shop.relationships.db]\nservice = \"s\"\n",
            list([0])
        );
        scene.vipnat.apply(&table);
        let files = tempfile::tempdir().unwrap();
        let root = files.path().join("rootfs");
        for directory in ["usr", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for directory in ["bin", "lib", "lib64"] {
            symlink(Path::new("usr").join(directory), root.join(directory)).unwrap();
        }
        copy_program(&program("probe"), &root.join("probe"));
        let script = format!("#!/bin/sh\nexec /probe tcp {DB}:{PORT} >/report\n");
        fs::write(root.join("script"), script).unwrap();
        fs::set_permissions(root.join("script"), Permissions::from_mode(0o755)).unwrap();
        copy_program(&root.join("script"), &root.join("init"));
        Self { files, cgroup: Cgroup::new(), scene }
    }

    /// Runs a runtime in the container's network namespace.
    fn run(&self, runtime: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.scene.app.host.command("unshare");
        command.args(["--mount", "sh", "-c", UNIFIED, "sh", runtime]).args(arguments);
        command.current_dir(self.files.path());
        outcome(&mut command)
    }

    /// The report of the first process.
    fn report(&self) -> Report {
        let file = self.files.path().join("rootfs/report");
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        Report::parse(text.trim())
    }

    /// Runs the container with an OCI runtime. Its bundle has these annotations and the hook.
    fn oci(&self, runtime: &str, annotations: &Value) -> Outcome {
        let dir = self.files.path();
        let _ = fs::remove_file(dir.join("config.json"));
        let spec = outcome(Command::new(runtime).arg("spec").current_dir(dir));
        assert!(spec.status.success(), "{spec}");
        let spec = fs::read_to_string(dir.join("config.json")).unwrap();
        let mut spec: Value = serde_json::from_str(&spec).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/init"]);
        spec["process"].as_object_mut().unwrap().remove("rlimits");
        spec["root"] = json!({ "path": "rootfs", "readonly": false });
        let usr = json!({
            "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"],
        });
        spec["mounts"].as_array_mut().unwrap().push(usr);
        let linux = spec["linux"].as_object_mut().unwrap();
        // Limits on devices would load a program, which this does not test.
        linux.remove("resources");
        let name = format!("{}-{runtime}", self.cgroup.relative());
        linux.insert("cgroupsPath".to_owned(), json!(format!("/{}/box", self.cgroup.relative())));
        for namespace in linux["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(self.scene.app.host.path());
            }
        }
        spec["annotations"] = annotations.clone();
        // Take the hook from examples/hooks/oci/config.json, and replace its paths.
        let example = fs::read_to_string(hook("oci/config.json")).unwrap();
        let example: Value = serde_json::from_str(&example).unwrap();
        spec["hooks"] = example["hooks"].clone();
        let run = &mut spec["hooks"]["createRuntime"][0];
        run["path"] = json!(hook("oci/vipnat-attach"));
        let args = run["args"].as_array_mut().unwrap();
        args.extend([json!("--bpffs"), json!(self.scene.vipnat.bpffs())]);
        run["env"] = json!([format!("VIPNAT={}", program("vipnat").display())]);
        fs::write(dir.join("config.json"), spec.to_string()).unwrap();
        let root = dir.join("state").display().to_string();
        self.run(runtime, &["--root", &root, "run", &name])
    }
}

/// A file of examples/hooks.
fn hook(name: &str) -> PathBuf {
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hooks");
    hooks.join(name).canonicalize().unwrap()
}

#[track_caller]
fn assert_translated(report: &Report) {
    assert_eq!((report.banner(), report.peer()), ("0", format!("{DB}:{PORT}").as_str()));
}

fn an_oci_runtime_attaches_the_app_that_the_annotation_names(runtime: &str) {
    let container = Container::new();
    let ran = container.oci(runtime, &json!({ "vipnat.app": "shop" }));
    assert!(ran.status.success(), "{ran}");
    assert_translated(&container.report());

    // Only the links of the last container remain.
    for _ in 0..2 {
        assert!(container.oci(runtime, &json!({ "vipnat.app": "shop" })).status.success());
    }
    let attached = fs::read_dir(container.scene.vipnat.bpffs().join("apps/1:shop")).unwrap();
    assert_eq!(attached.count(), 1);
    assert_translated(&container.report());

    // The hook ignores other annotations.
    let ran = container.oci(runtime, &json!({ "other": "shop" }));
    assert!(ran.status.success(), "{ran}");
    assert_eq!(container.report().error(), "ENETUNREACH");

    // If the hook fails, the container does not start.
    let ran = container.oci(runtime, &json!({ "vipnat.app": "--pid=1" }));
    assert!(!ran.status.success(), "{ran}");
    assert!(!container.files.path().join("rootfs/report").exists());
    let said = "no app \"--pid=1\" is applied";
    // crun names the hook, but does not print its message.
    assert!(ran.stderr.contains(said) || ran.stderr.contains("hook"), "{ran}");
}

#[test]
fn runc_attaches_the_app_that_the_annotation_names() {
    an_oci_runtime_attaches_the_app_that_the_annotation_names("runc");
}

#[test]
fn crun_attaches_the_app_that_the_annotation_names() {
    an_oci_runtime_attaches_the_app_that_the_annotation_names("crun");
}

#[test]
fn lxc_attaches_the_app_that_is_called_as_the_container_or_as_the_hook_is_told() {
    if installed("lxc-start").is_none() {
        // Its package starts a service that makes a bridge. `cargo xtask setup` must not do that.
        not_run("needs Debian's package lxc");
        return;
    }
    let container = Container::new();
    let files = container.files.path();
    let start = |name: &str, arguments: &str| {
        let (root, usr) = (files.join("rootfs"), "/usr usr none bind,ro 0 0");
        let (hook, state) = (hook("lxc/vipnat-attach-lxc"), container.scene.vipnat.bpffs());
        let config = format!(
            "lxc.rootfs.path = dir:{}\nlxc.mount.entry = {usr}\nlxc.mount.auto = proc:mixed\n\
             lxc.net.0.type = none\nlxc.apparmor.profile = unconfined\nlxc.init.cmd = /init\n\
             lxc.cgroup.dir = {}\nlxc.hook.start-host = env VIPNAT={} {} --bpffs {}{arguments}\n",
            root.display(),
            container.cgroup.relative(),
            program("vipnat").display(),
            hook.display(),
            state.display(),
        );
        fs::write(files.join("config"), config).unwrap();
        let lxc = files.join("lxc").display().to_string();
        fs::create_dir_all(&lxc).unwrap();
        let arguments = ["-F", "-P", &lxc, "-n", name, "-f", "config", "-o", "/dev/stderr"];
        container.run("lxc-start", &arguments)
    };
    for (name, arguments) in [("shop", ""), ("other", " --app shop")] {
        let ran = start(name, arguments);
        assert!(ran.status.success(), "{ran}");
        assert_translated(&container.report());
    }
    let ran = start("other", "");
    assert!(!ran.status.success(), "{ran}");
    assert!(!files.join("rootfs/report").exists());
}
