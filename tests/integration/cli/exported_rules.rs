//! Loads exported rules into the kernel, and removes them again.

use std::{fs, process::Command};

use vipnat_testkit::{NetNs, Outcome, outcome, program};

use crate::{scene::Scene, sockets::Sockets};

/// The option for rules beside vipnat.
pub(crate) const BESIDE: &[&str] = &["--beside-vipnat"];

/// A program that loads rules into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    Legacy,
    NftIptables,
    Nft,
}

impl Loader {
    pub(crate) const ALL: [Self; 3] = [Self::Legacy, Self::NftIptables, Self::Nft];
    pub(crate) const IPTABLES: [Self; 2] = [Self::Legacy, Self::NftIptables];

    /// Its name in `vipnat export`.
    pub(crate) fn format(self) -> &'static str {
        if self == Self::Nft { "nft" } else { "iptables" }
    }

    fn program(self, verb: &str) -> String {
        match self {
            Self::Legacy => format!("iptables-legacy-{verb}"),
            Self::NftIptables => format!("iptables-nft-{verb}"),
            Self::Nft => "nft".to_owned(),
        }
    }

    /// Loads rules on a host. `options` are further options of iptables-restore.
    pub(crate) fn load(self, scene: &Scene, rules: &str, options: &[&str]) {
        let file = scene.vipnat.table("").with_file_name("rules");
        fs::write(&file, rules).unwrap();
        let mut command = scene.app.host.command(self.program("restore"));
        if self == Self::Nft {
            command.arg("-f");
        }
        succeeds(command.args(options).arg(file), rules);
    }

    /// The rules on a host, without comments and counters.
    pub(crate) fn saved(self, host: &NetNs) -> String {
        let mut command = host.command(self.program("save"));
        if self == Self::Nft {
            command.args(["list", "ruleset"]);
        }
        let saved = succeeds(&mut command, "").stdout;
        let lines = saved.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let counters = if line.starts_with(':') { line.find(" [") } else { None };
            &line[..counters.unwrap_or(line.len())]
        });
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Runs a command that must succeed.
pub(crate) fn succeeds(command: &mut Command, input: &str) -> Outcome {
    let outcome = outcome(command);
    assert!(outcome.status.success(), "{command:?}: {outcome}\n--- input\n{input}");
    outcome
}

/// An app with a route for VIPs, which only rules need, and with backends that vipnat does not know.
pub(crate) fn scene(backends: u8) -> Scene {
    let scene = Scene::new(backends);
    scene.app.host.ip("route add 169.254.0.0/16 dev eth0");
    scene
}

/// The output of `vipnat export` for the app of a table.
pub(crate) fn exported(scene: &Scene, loader: Loader, table: &str, options: &[&str]) -> String {
    let file = scene.vipnat.table(table);
    let arguments = ["export", loader.format(), file.to_str().unwrap(), "--app", "shop"];
    scene.vipnat.ok([&arguments[..], options].concat())
}

/// Removes vipnat's rules, as the documentation tells. There must be no others.
pub(crate) fn clear(scene: &Scene, loader: Loader) {
    remove(scene, loader);
    let left = loader.saved(&scene.app.host);
    assert!(!left.to_lowercase().contains("vipnat") && !left.contains("-A"), "{left}");
}

pub(crate) fn remove(scene: &Scene, loader: Loader) {
    match loader {
        Loader::Nft => {
            succeeds(scene.app.host.command("nft").args(["delete", "table", "ip", "vipnat"]), "");
        }
        iptables => {
            let saved = succeeds(&mut scene.app.host.command(iptables.program("save")), "").stdout;
            let others = saved.lines().filter(|line| !line.contains("VIPNAT"));
            let others: String = others.map(|line| format!("{line}\n")).collect();
            iptables.load(scene, &others, &[]);
        }
    }
}

/// The entries of connection tracking for a protocol.
pub(crate) fn tracked(host: &NetNs, protocol: &str) -> String {
    succeeds(host.command("conntrack").args(["-L", "-p", protocol]), "").stdout
}

/// Loads the rules of a table beside vipnat.
pub(crate) fn load(scene: &Scene, loader: Loader, table: &str) {
    loader.load(scene, &exported(scene, loader, table, BESIDE), &[]);
}

/// A client in the app's network namespace, but not in its cgroup: no hook runs for it.
pub(crate) fn outsider(scene: &Scene) -> Sockets {
    Sockets::start(scene.app.host.command(program("sockets")))
}

/// One ping from the app.
pub(crate) fn ping(scene: &Scene, address: &str) -> Outcome {
    outcome(scene.app.command("ping").args(["-c1", "-W5", address]))
}
