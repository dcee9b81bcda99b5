//! The shipped systemd unit under a real systemd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use vipnat_testkit::{App, Outcome, Systemd, outcome, patient, program};

use crate::scene::{DB, PORT, Scene, banner, list, table};

/// The longest time that the service may take to follow a change.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file of the folder `packaging`.
fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name)
}

/// A systemd with the unit, the program and a table in their usual places, and an app.
struct Service {
    app: App,
    systemd: Systemd,
    scene: Scene,
}

impl Service {
    fn new() -> Self {
        Self::with(&[])
    }

    /// The same with more units, or parts of units.
    fn with(units: &[(&str, &str)]) -> Self {
        let scene = Scene::new(2);
        let systemd = Systemd::start(|root, cgroup| {
            let copy = |from: &Path, to: &str| {
                let to = root.join(to);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from, to).unwrap();
            };
            copy(&packaging("vipnat.service"), "run/systemd/system/vipnat.service");
            // This systemd has no journal.
            let output =
                "[Service]\nStandardOutput=append:/run/log\nStandardError=append:/run/log\n";
            for (name, text) in [("vipnat.service.d/output.conf", output)].iter().chain(units) {
                let unit = root.join("run/systemd/system").join(name);
                fs::create_dir_all(unit.parent().unwrap()).unwrap();
                fs::write(unit, text).unwrap();
            }
            copy(&program("vipnat"), "usr/local/bin/vipnat");
            let shop = format!("{}/shop", cgroup.relative());
            copy(&scene.vipnat.table(&text(&shop, 0)), "etc/vipnat/table.toml");
        });
        let app = App { host: scene.app.host.clone(), cgroup: systemd.cgroup().child("shop") };
        Self { app, systemd, scene }
    }

    fn run(&self, program: &str, arguments: &str) -> Outcome {
        outcome(self.systemd.command(program).args(arguments.split_ascii_whitespace()))
    }

    fn ok(&self, program: &str, arguments: &str) -> String {
        let outcome = self.run(program, arguments);
        let status = || self.run("systemctl", "status --full vipnat");
        assert!(outcome.status.success(), "{program} {arguments}: {outcome}\n{}", status());
        outcome.stdout
    }

    fn property(&self, name: &str) -> String {
        self.ok("systemctl", &format!("show --value --property {name} vipnat")).trim().to_owned()
    }

    /// A table in which the app's `db` is this backend.
    fn text(&self, backend: u8) -> String {
        text(self.app.cgroup.relative(), backend)
    }

    /// Overwrites the table.
    fn write(&self, text: &str) {
        let file = self.scene.vipnat.table(text);
        let copied = outcome(
            self.systemd
                .command("tee")
                .arg("/etc/vipnat/table.toml")
                .stdin(fs::File::open(file).unwrap()),
        );
        assert!(copied.status.success(), "{copied}");
    }

    fn who(&self) -> String {
        banner(&self.app.probe(&format!("tcp {DB}:{PORT}")))
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(
                begun.elapsed() < patient(PATIENCE),
                "{what}: {}",
                self.run("systemctl", "status vipnat")
            );
            sleep(Duration::from_millis(20));
        }
    }
}

/// A table in which the app's `db` is this backend. vipnat ends its connections when it leaves.
fn text(cgroup: &str, backend: u8) -> String {
    let text = table(&[("shop", cgroup, &list([backend]), "")]);
    text.replace("backends =", "on-backend-removed = \"kill\"\nbackends =")
}

/// The output of `systemd-analyze` for the unit with these words replaced. The machine has another unit with
/// a mistake in it, which every start pulls in.
fn analyzed(replaced: [(&str, &str); 2], arguments: &[&str]) -> Outcome {
    let unit = replaced.iter().fold(
        fs::read_to_string(packaging("vipnat.service")).unwrap(),
        |unit, (old, new)| {
            assert!(unit.contains(old), "{old} in {unit}");
            unit.replace(old, new)
        },
    );
    // Check only the unit and the units on which all units depend.
    let directory = tempfile::tempdir().unwrap();
    for target in ["sysinit", "basic", "shutdown", "multi-user"] {
        let target = directory.path().join(format!("{target}.target"));
        fs::write(target, "[Unit]\nDefaultDependencies=no\n").unwrap();
    }
    fs::write(directory.path().join("vipnat.service"), unit).unwrap();
    // The machine's own units are in /run, among other places.
    let plant = "mount -t tmpfs none /run && mkdir -p /run/systemd/system/sysinit.target.wants && \
                 cd /run/systemd/system && printf '[Service]\nFortune=1\n' >foreign.service && \
                 ln -s ../foreign.service sysinit.target.wants/ && cd \"$0\" && exec \"$@\" vipnat.service";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", plant]).arg(directory.path()).arg("systemd-analyze");
    command.args(arguments).env("SYSTEMD_UNIT_PATH", directory.path());
    outcome(command.env("SYSTEMD_GENERATOR_PATH", "/none"))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    // systemd looks for the program at the path in the unit.
    let program = program("vipnat");
    let place = ("/usr/local/bin/vipnat", program.to_str().unwrap());
    let verified = analyzed([place, ("Type=notify", "Type=notify")], &["verify"]);
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified}");
    let wrong = analyzed([place, ("Type=notify", "Tpye=notify")], &["verify"]);
    assert!(wrong.stderr.contains("Unknown key"), "this finds mistakes: {wrong}");
    // 0 means safe, and 100 means unsafe.
    let security = ["security", "--offline=true", "--threshold=15"];
    let security = analyzed([place, ("Type=notify", "Type=notify")], &security);
    assert!(security.status.success(), "{security}");
}

#[test]
fn the_service_applies_follows_and_leaves_translation_in_place() {
    let service = Service::new();
    service.ok("systemctl", "start vipnat");
    assert_eq!(service.who(), "0");
    assert_eq!(
        service.property("StatusText"),
        "1 app and 1 relationship, from /etc/vipnat/table.toml"
    );
    // The service has only the capabilities in docs/privileges.md: CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
    let process = service.property("MainPID");
    let status = service.ok("cat", &format!("/proc/{process}/status"));
    assert!(status.contains("CapEff:\t000000c000001000\n"), "{status}");
    assert!(status.contains("CapBnd:\t000000c000001000\n"), "{status}");

    // With these rights it can find connections to a backend that leaves. It can't enter a container's
    // network, but from this process's namespaces no container is in view.
    let held = service.app.hold(&format!("{DB}:{PORT}"));
    service.write(&service.text(1));
    service.wait_until("follows", || service.who() == "1");
    let log = || service.ok("cat", "/run/log");
    service.wait_until("tells what it did", || log().contains("~ shop db"));
    assert!(!log().contains("could not end"), "{}", log());
    drop(held);
    service.ok("systemctl", "reload vipnat");
    service.wait_until("is reloaded", || service.property("SubState") == "running");
    assert_eq!(service.property("MainPID"), process);

    // A table with a mistake changes nothing.
    service.write("[services");
    service.wait_until("tells", || service.property("StatusText").contains("table.toml:1:"));
    assert_eq!(service.who(), "1");

    service.ok("systemctl", "stop vipnat");
    assert_eq!(service.property("Result"), "success");
    assert_eq!(service.who(), "1");
    assert!(service.ok("vipnat", "list").contains(DB));

    // If a table is in force, the service starts even with a broken table, and waits for a good one.
    service.ok("systemctl", "start vipnat");
    assert!(service.property("StatusText").contains("table.toml:1:"));
    assert_eq!(service.who(), "1");
    service.write(&service.text(0));
    service.wait_until("follows", || service.who() == "0");

    // Without a table in force it fails, and systemd tries again until there is a good table.
    service.ok("systemctl", "stop vipnat");
    service.ok("vipnat", "flush");
    service.write("[services");
    assert!(!service.run("systemctl", "start vipnat").status.success());
    assert_eq!(service.property("ExecMainStatus"), "2");
    service.write(&service.text(0));
    service.wait_until("is tried again", || service.property("SubState") == "running");
    assert_eq!(service.who(), "0");

    // systemd starts the service again after a crash.
    let process = service.property("MainPID");
    service.ok("kill", &format!("-9 {process}"));
    service.wait_until("is back", || {
        service.property("SubState") == "running" && service.property("MainPID") != process
    });
    assert_eq!(service.who(), "0");
}

/// Ending sockets needs the right to enter the network namespace of a container with other rights.
#[test]
fn only_with_the_drop_in_may_the_service_enter_a_containers_network() {
    let container = "[Service]\nType=exec\nExecStart=/bin/sleep infinity\nPrivateNetwork=yes\n\
                     CapabilityBoundingSet=CAP_CHOWN CAP_NET_RAW\n";
    let enter = "[Service]\nExecStartPost=/bin/sh -c \
                 'nsenter --net=/proc/$$(pidof sleep)/ns/net ss --kill dst 247.221.81.0'\n";
    let kill = fs::read_to_string(packaging("vipnat.service.d/kill.conf")).unwrap();
    let units = [
        ("container.service", container),
        ("vipnat.service.d/enter.conf", enter),
        ("vipnat.service.d/kill.conf", kill.as_str()),
    ];
    for (units, expected) in [(&units[..2], false), (&units, true)] {
        let service = Service::with(units);
        service.ok("systemctl", "start container");
        let started = service.run("systemctl", "start vipnat");
        let status = service.run("systemctl", "show vipnat");
        assert_eq!(started.status.success(), expected, "{started}\n{status}");
        assert_eq!(service.who(), "0");
    }
}
