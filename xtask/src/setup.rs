//! `cargo xtask setup`: makes a fresh Debian 12 machine able to build and test vipnat.

mod debian;
mod linker;
mod rust;

use std::time::Instant;

use anyhow::Result;

pub(crate) use self::rust::{BpfToolchain, lint_tools};
use crate::progress::say;

/// Installs missing packages and tools. If none is missing, returns at once and uses no network.
///
/// Returns the toolchain that builds the BPF object.
pub(crate) fn run() -> Result<BpfToolchain> {
    let start = Instant::now();
    // The longest steps come last. All checks come before the first installation, since a refusal at the
    // start is better than one halfway.
    let rustc = rust::Rustc::query()?;
    let toolchain = rustc.bpf_toolchain();
    let linker_there = linker::is_there();
    let mut packages = debian::missing(debian::TOOLS);
    if !linker_there {
        packages.extend(debian::missing(linker::packages()));
    }
    if let Some(toolchain) = toolchain
        && packages.is_empty()
        && linker_there
    {
        say("setup", "everything is there");
        return Ok(toolchain);
    }

    debian::install(&packages)?;
    let toolchain = match toolchain {
        Some(toolchain) => toolchain,
        None => rustc.install_core_source()?,
    };
    if !linker_there {
        linker::install()?;
    }
    say("setup", &format!("everything is there now, after {} s", start.elapsed().as_secs()));
    Ok(toolchain)
}
