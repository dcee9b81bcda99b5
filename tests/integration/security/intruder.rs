//! A container's root can't turn translation off, read other apps' tables, or reach other apps'
//! backends.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{self, Command},
};

use serde_json::Value;
use vipnat_testkit::{Jail, Report, intrusion::Attempt, outcome, program};

use crate::scene::{DB, PORT, Scene, banner, list, table};

/// The VIP of the name `cache`, which only the other app has.
const CACHE: &str = "169.254.206.224";

/// Two apps on one network: one is a jail, and the other is its target.
struct Break {
    jail: Jail,
    scene: Scene,
}

/// The state as the intruder knows it.
#[derive(Debug, PartialEq)]
struct State {
    /// The path of each pin below the state directory, with its kind and id.
    pins: BTreeMap<PathBuf, (&'static str, u64)>,
    maps: Vec<String>,
}

impl Break {
    fn new() -> Self {
        let scene = Scene::new(2);
        let jail = Jail::new(&scene.network, Ipv4Addr::new(247, 221, 80, 12));
        let more = "[apps.shop.relationships.cache]\nservice = \"shop\"";
        scene.vipnat.apply(&table(&[
            ("shop", scene.app.cgroup.relative(), &list([0]), more),
            ("jail", jail.app().cgroup.relative(), &list([1]), ""),
        ]));
        Self { jail, scene }
    }

    fn state(&self) -> State {
        let bpffs = self.scene.vipnat.bpffs();
        let pins = files(bpffs).into_iter().map(|pin| {
            let kind = match pin.components().next().unwrap().as_os_str().to_str().unwrap() {
                "maps" => "map",
                "progs" => "prog",
                _ => "link",
            };
            let shown = bpftool(&[kind, "show", "pinned"], &bpffs.join(&pin));
            (pin, (kind, serde_json::from_str::<Value>(&shown).unwrap()["id"].as_u64().unwrap()))
        });
        let pins = pins.collect();
        // Leave out cursors and counters, which go on.
        let dump = |map: &&str| bpftool(&["map", "dump", "pinned"], &bpffs.join("maps").join(map));
        State { pins, maps: ["vips", "backends", "scope", "layout"].iter().map(dump).collect() }
    }

    /// Runs the intruder. `start` makes a command of a program.
    fn intrude(&self, start: impl FnOnce(&Path) -> Command) -> Vec<Attempt> {
        self.intrude_from(self.jail.app().cgroup.path(), start)
    }

    /// The same with another path for its cgroup.
    fn intrude_from(&self, cgroup: &Path, start: impl FnOnce(&Path) -> Command) -> Vec<Attempt> {
        let Self { jail, scene } = self;
        let record = scene.vipnat.bpffs().file_name().unwrap().to_str().unwrap();
        let record = format!("/run/vipnat/sys-fs-bpf-{}.names", record.replace('-', "%2D"));
        assert!(Path::new(&record).exists(), "{record}");
        let mut command = start(&jail.install(&program("intruder")));
        command.arg("--state").arg(scene.vipnat.bpffs()).args(["--record", &record]);
        command.arg("--cgroup").arg(cgroup).args(["--outside", &process::id().to_string()]);
        command.arg("--other").arg(scene.app.cgroup.path());
        command.arg("--vipnat").arg(jail.install(&program("vipnat")));
        command.arg("--mount").args(["bpffs", "cgroup2"].map(|name| jail.directory(name)));
        for (pin, (kind, id)) in self.state().pins {
            let kind = if kind == "prog" { "program" } else { kind };
            command.args([format!("--{kind}"), id.to_string()]).arg(pin);
        }
        let outcome = outcome(&mut command);
        assert!(outcome.status.success(), "{outcome}");
        outcome.stdout.lines().map(Attempt::parse).collect()
    }

    /// A connection from the jail.
    fn probe(&self, to: &str) -> Report {
        let probe = self.jail.install(&program("probe"));
        let outcome = outcome(self.jail.command(probe).args(["tcp", &format!("{to}:{PORT}")]));
        assert!(outcome.status.success(), "{outcome}");
        Report::parse(outcome.stdout.trim())
    }

    /// Checks that each app still reaches its own backends, and no others.
    fn assert_translated(&self) {
        let report = self.probe(DB);
        assert_eq!((report.banner(), report.peer()), ("1", format!("{DB}:{PORT}").as_str()));
        let report = self.probe(CACHE);
        assert!(!report.ok && report.banner.is_none(), "{report:?}");
        assert_eq!(self.scene.who(), "0");
        assert_eq!(banner(&self.scene.app.probe(&format!("tcp {CACHE}:{PORT}"))), "0");
    }
}

/// The files in a directory and below, by their paths below it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { rest.push(path) } else { files.push(path) }
        }
    }
    files.iter().map(|path| path.strip_prefix(directory).unwrap().to_owned()).collect()
}

fn bpftool(arguments: &[&str], pin: &Path) -> String {
    let outcome = outcome(Command::new("bpftool").arg("--json").args(arguments).arg(pin));
    assert!(outcome.status.success(), "{outcome}");
    outcome.stdout
}

/// Checks that each attempt has one of the expected answers.
fn assert_refused(attempts: &[Attempt], expected: &[(&str, &[&str])]) {
    for Attempt { what, on, said } in attempts {
        let (_, answers) =
            expected.iter().find(|(name, _)| name == what).unwrap_or_else(|| panic!("{what}"));
        assert!(answers.contains(&said.as_str()), "{what} {on}: {said}, not {answers:?}");
    }
    for (name, _) in expected {
        assert!(attempts.iter().any(|attempt| attempt.what == *name), "{name} was not tried");
    }
}

#[test]
fn root_of_a_container_with_namespaces_of_its_own_gets_nowhere() {
    let scene = Break::new();
    let before = scene.state();
    assert_eq!(before.pins.len(), 8 + 7 + 2 * 7, "{before:?}");
    scene.assert_translated();
    let attempts = scene.intrude(|intruder| scene.jail.command(intruder));
    assert_refused(
        &attempts,
        &[
            ("list", &["EACCES"]),
            ("read", &["EACCES"]),
            ("open-pin", &["EACCES"]),
            ("first-id", &["EPERM"]),
            ("open-id", &["EPERM"]),
            // It may mount a bpffs of its own.
            ("mount-bpffs", &["EPERM", "nothing in it"]),
            ("mount-cgroup2", &["nothing in it"]),
            // No mount options delegated anything. EINVAL: the kernel has no tokens (before 6.8).
            ("token", &["ENOENT", "EPERM", "EINVAL"]),
            // ENOENT: the cgroup is not below the root of its cgroup namespace.
            ("move", &["EACCES", "ENOENT"]),
            ("fork-into", &["EACCES", "ENOENT"]),
            ("enter", &["EACCES", "EPERM"]),
            ("make", &["EPERM"]),
            ("attach", &["EPERM"]),
            ("attach-link", &["EPERM"]),
            ("query", &["EPERM"]),
            // This needs no privilege, but it does not detach links.
            ("detach", &["EINVAL"]),
            ("detach-link", &["EPERM"]),
            ("unlink", &["EACCES"]),
            ("rename", &["EACCES", "EPERM"]),
            ("run", &["exit status: 1"]),
        ],
    );
    assert_eq!(scene.state(), before);
    scene.assert_translated();
}

/// Runs the same program as the machine's root, which succeeds. So the test above can fail.
#[test]
fn root_outside_can_do_what_root_of_a_container_can_not() {
    let scene = Break::new();
    let attempts = scene.intrude(|intruder| {
        // Its mounts end with this mount namespace.
        let mut command = scene.jail.app().command("unshare");
        command.arg("--mount").arg(intruder);
        command
    });
    let done = ["OK", "found it", "exit status: 0"];
    let (can, can_not): (Vec<_>, Vec<_>) =
        attempts.iter().partition(|attempt| done.contains(&attempt.said.as_str()));
    let can_not: Vec<_> = can_not.iter().map(|attempt| attempt.what.as_str()).collect();
    // For root too, a new bpffs is empty, tokens need a user namespace, and links stay.
    assert_eq!(can_not, ["mount-bpffs", "token", "detach"], "{can:?}");
    assert_eq!(scene.probe(DB).error(), "ENETUNREACH");
}

/// Docker runs such a container without a user namespace: the machine's root with few capabilities. It sees
/// neither the machine's bpffs nor any cgroup but its own, and must not. Even with a read-only mount of all
/// cgroups, it could start a process in another app's cgroup with clone3(2).
#[test]
fn root_of_a_container_without_a_user_namespace_gets_nowhere() {
    let scene = Break::new();
    let before = scene.state();
    let caps = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
                +net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap";
    let cgroups = scene.jail.app().cgroup.path().parent().unwrap();
    let attempts = scene.intrude_from(cgroups, |intruder| {
        let script = "set -e; umount -l /sys/fs/bpf; mount -t tmpfs none /run; umount -l \"$1\"; \
                      mount -t cgroup2 none \"$1\"; mount -o remount,bind,ro \"$1\"; \
                      shift; exec \"$@\"";
        let mut command = scene.jail.app().command("unshare");
        command.args(["--mount", "--cgroup", "sh", "-c", script, "sh"]).arg(cgroups).arg("setpriv");
        command.arg(format!("--bounding-set={caps}")).arg(format!("--inh-caps={caps}"));
        command.arg(intruder);
        command
    });
    assert_refused(
        &attempts,
        &[
            ("list", &["ENOENT"]),
            ("read", &["ENOENT"]),
            ("open-pin", &["ENOENT"]),
            ("first-id", &["EPERM"]),
            ("open-id", &["EPERM"]),
            ("mount-bpffs", &["EPERM"]),
            ("mount-cgroup2", &["EPERM"]),
            ("token", &["EINVAL", "EPERM"]),
            ("move", &["ENOENT", "EROFS"]),
            ("fork-into", &["ENOENT"]),
            ("enter", &["EACCES", "EPERM"]),
            ("make", &["EPERM"]),
            ("attach", &["EPERM"]),
            ("attach-link", &["EPERM"]),
            ("query", &["EPERM"]),
            ("detach", &["EINVAL"]),
            ("detach-link", &["EPERM"]),
            ("unlink", &["ENOENT"]),
            ("rename", &["ENOENT"]),
            // It sees no state, so there is nothing to remove.
            ("run", &["exit status: 0", "exit status: 1"]),
        ],
    );
    assert_eq!(scene.state(), before);
    scene.assert_translated();
}

#[test]
fn a_cgroup_that_a_container_makes_below_its_own_is_translated() {
    let scene = Break::new();
    let script = "mount -t cgroup2 none \"$1\" && mkdir \"$1\"/child && echo $$ >\"$1\"/child/cgroup.procs \
                  && cat /proc/self/cgroup >&2 && shift && exec \"$@\"";
    let probe = scene.jail.install(&program("probe"));
    let mut shell = scene.jail.command("unshare");
    shell.args(["--mount", "sh", "-c", script, "sh"]).arg(scene.jail.directory("cgroup"));
    let outcome = outcome(shell.arg(probe).args(["tcp", &format!("{DB}:{PORT}")]));
    assert!(outcome.status.success(), "{outcome}");
    assert!(outcome.stderr.lines().any(|line| line == "0::/child"), "{outcome}");
    assert_eq!(banner(&Report::parse(outcome.stdout.trim())), "1");
}

/// The container owns its network namespace, and may have any routes and rules there.
#[test]
fn routes_and_rules_of_a_container_lead_to_no_backend_of_another() {
    let scene = Break::new();
    let run = |program: &str, arguments: &str| {
        let mut command = scene.jail.command(program);
        let outcome = outcome(command.args(arguments.split(' ')));
        assert!(outcome.status.success(), "{program} {arguments}: {outcome}");
    };
    run("ip", "route add 169.254.0.0/16 dev eth0");
    run("iptables-nft", "-t nat -F");
    scene.assert_translated();
    // With a rule of its own for its own VIP, the hook still comes first.
    run("iptables-nft", &format!("-t nat -A OUTPUT -d {DB} -j DNAT --to-destination 247.221.81.0"));
    scene.assert_translated();
}
