//! The Debian packages that building and testing need, and their installation.

use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;
use xshell::{Cmd, Shell, cmd};

use crate::{
    command::{self, CmdExt as _, shell},
    progress::say,
};

/// A Debian package that is needed.
pub(super) struct Package {
    pub(super) name: &'static str,
    /// A program on PATH or an absolute path; if it exists, the package is not needed.
    pub(super) provides: &'static str,
    pub(super) purpose: &'static str,
    pub(super) seconds: u32,
}

/// Packages with programs that the tests and the demo run.
pub(super) const TOOLS: &[Package] = &[
    Package {
        name: "iproute2",
        provides: "ip",
        purpose: "makes the network namespaces and links that stand for hosts",
        seconds: 3,
    },
    Package {
        name: "util-linux",
        provides: "setpriv",
        purpose: "runs programs as other users, or with fewer rights",
        seconds: 3,
    },
    Package {
        name: "bpftool",
        provides: "bpftool",
        purpose: "shows programs and maps, and disassembles the programs",
        seconds: 3,
    },
    Package { name: "jq", provides: "jq", purpose: "reads JSON output", seconds: 3 },
    Package {
        name: "strace",
        provides: "strace",
        purpose: "shows the system calls that an application sees",
        seconds: 3,
    },
    Package {
        name: "iptables",
        provides: "iptables-nft-restore",
        purpose: "loads what `vipnat export iptables` prints, into both kinds of iptables",
        seconds: 5,
    },
    Package {
        name: "nftables",
        provides: "nft",
        purpose: "loads what `vipnat export nft` prints",
        seconds: 3,
    },
    Package {
        name: "iputils-ping",
        provides: "ping",
        purpose: "a client of a protocol that has no connect",
        seconds: 3,
    },
    Package {
        name: "traceroute",
        provides: "traceroute",
        purpose: "a client of raw TCP",
        seconds: 3,
    },
    Package {
        name: "wireguard-tools",
        provides: "wg",
        purpose: "sets up a tunnel whose socket is the kernel's own",
        seconds: 3,
    },
    Package {
        name: "conntrack",
        provides: "conntrack",
        purpose: "shows what is tracked",
        seconds: 3,
    },
    Package {
        name: "ethtool",
        provides: "ethtool",
        purpose: "turns segmentation offload off for benchmarks",
        seconds: 3,
    },
    Package {
        name: "systemd",
        provides: "systemd-analyze",
        purpose: "checks the service's unit, and runs it in namespaces of its own",
        seconds: 6,
    },
    Package {
        name: "runc",
        provides: "runc",
        purpose: "a container runtime, to try the hook for such",
        seconds: 4,
    },
    Package { name: "crun", provides: "crun", purpose: "another one", seconds: 3 },
    Package {
        name: "redis-tools",
        provides: "redis-check-rdb",
        purpose: "a real server with a real client; the service is another package",
        seconds: 3,
    },
    Package {
        name: "dnsmasq-base",
        provides: "dnsmasq",
        purpose: "a small name server; the service is another package",
        seconds: 3,
    },
    Package { name: "bind9-dnsutils", provides: "dig", purpose: "a real client of it", seconds: 4 },
    Package {
        name: "busybox-static",
        provides: "busybox",
        purpose: "a static client of it",
        seconds: 3,
    },
    Package {
        name: "musl-tools",
        provides: "musl-gcc",
        purpose: "compiles a client with another C library",
        seconds: 4,
    },
    Package {
        name: "tftp-hpa",
        provides: "tftp",
        purpose: "a client whose server answers from another port",
        seconds: 3,
    },
    Package { name: "curl", provides: "curl", purpose: "a real client of HTTP", seconds: 3 },
    Package {
        name: "python3",
        provides: "python3",
        purpose: "a small web server, and clients in Python",
        seconds: 5,
    },
    Package { name: "nodejs", provides: "node", purpose: "clients in JavaScript", seconds: 10 },
    Package {
        // This package can run a Java source file; no JDK is needed.
        name: "openjdk-17-jre-headless",
        provides: "java",
        purpose: "clients in Java, whose sockets are IPv6",
        seconds: 20,
    },
    Package {
        name: "postgresql",
        provides: POSTGRES,
        purpose: "a real server with a real client",
        seconds: 20,
    },
];

/// PostgreSQL 15, the only version in Debian 12.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin/initdb";

/// Rust with LLVM 22 and its library's source, which Debian keeps current for its browsers.
pub(super) const RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Those of `packages` that this machine lacks.
pub(super) fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    packages.iter().filter(|package| command::find(package.provides).is_none()).collect()
}

/// Installs `packages` one after the other, so that an error names one package.
pub(super) fn install(packages: &[&Package]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    check_possible(packages)?;
    update();
    for Package { name, provides, purpose, seconds } in packages {
        say("setup", &format!("installing Debian's {name}: {purpose} (about {seconds} s)"));
        let _no_cluster = if *provides == POSTGRES { Some(NoCluster::new()?) } else { None };
        apt_install(&[*name])?;
    }
    Ok(())
}

/// Installs Debian's Rust and `more` of the same version.
pub(super) fn install_rust(more: &[&str]) -> Result<()> {
    let names = [RUST, more].concat();
    let list = names.join(" ");
    if command::find("apt-get").is_none() || !Uid::effective().is_root() {
        bail!("as root on Debian 12, `apt-get install {list}` is the other way");
    }
    update();
    say("setup", &format!("installing Debian's {list} (about a minute)"));
    apt_install(&names)
}

/// Fails if setup can't install packages, and explains how to install them by hand.
fn check_possible(packages: &[&Package]) -> Result<()> {
    let names: Vec<_> = packages.iter().map(|package| package.name).collect();
    let names = names.join(" ");
    if command::find("apt-get").is_none() {
        let list: String = packages
            .iter()
            .map(|Package { name, provides, purpose, .. }| {
                format!("\n    {name} ({provides}): {purpose}")
            })
            .collect();
        bail!(
            "setup installs with apt-get, which is not here; install what provides the following \
             (Debian's package names) and run it again:{list}"
        );
    }
    if !Uid::effective().is_root() {
        bail!(
            "these Debian packages are missing, and installing them needs root: {names}\n\
             Run `sudo apt-get install {names}`, or setup as root."
        );
    }
    Ok(())
}

/// Reads the package lists. A broken source does not end the setup; a package that then can't be
/// installed reports its own error.
fn update() {
    say("setup", "reading the package lists (apt-get update)");
    if let Err(error) = apt_get(&shell()).arg("update").run_quietly() {
        say("setup", &format!("going on with the lists that are there: {error:#}"));
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    apt_get(&shell())
        // Never removes a package.
        .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(packages)
        .run_quietly()
        .with_context(|| {
            format!(
                "{} can't be installed (setup is made for Debian 12, whose security updates have \
                 LLVM 22)",
                packages.join(" ")
            )
        })
}

fn apt_get(sh: &Shell) -> Cmd<'_> {
    cmd!(sh, "apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        // A machine that has just started may be busy with its own updates.
        .args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
}

/// While this lives, Debian's PostgreSQL package makes no database cluster and starts no server. The tests
/// run their own servers.
struct NoCluster;

impl NoCluster {
    const FOLDER: &str = "/etc/postgresql-common/createcluster.d";
    const FILE: &str = "/etc/postgresql-common/createcluster.d/vipnat.conf";

    fn new() -> Result<Self> {
        fs::create_dir_all(Self::FOLDER)
            .and_then(|()| fs::write(Self::FILE, "create_main_cluster = false\n"))
            .with_context(|| format!("writing {}", Self::FILE))?;
        Ok(Self)
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(Self::FILE)
            && error.kind() != io::ErrorKind::NotFound
        {
            say("setup", &format!("{} stays behind: {error}", Self::FILE));
        }
    }
}
