//! The machine and the versions that were measured.

use std::{env, fs, process::Command};

use serde::{Deserialize, Serialize};

/// The hardware and software on which the figures depend.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) rustc: String,
    pub(crate) iptables: String,
    pub(crate) nft: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let dirty = if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            ""
        } else {
            " and changes"
        };
        Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cpus: crate::cpus(),
            kernel: said("uname", &["-r"]),
            memory_mib: kilobytes("MemTotal") >> 10,
            date: said("date", &["--utc", "+%Y-%m-%d"]),
            commit: match env::var_os("VIPNAT_BIN") {
                None => said("git", &["rev-parse", "--short=12", "HEAD"]) + dirty,
                Some(_) => "of another build (VIPNAT_BIN)".to_owned(),
            },
            rustc: said("rustc", &["--version"]),
            iptables: said("iptables-nft", &["--version"]),
            nft: said("nft", &["--version"]),
        }
    }
}

/// A line of /proc/meminfo, in KiB.
pub(crate) fn kilobytes(name: &str) -> u64 {
    field("/proc/meminfo", name).split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map_or("", |(_, value)| value.trim()).to_owned()
}

/// The output of a program, or an empty text if the program does not start.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
