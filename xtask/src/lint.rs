//! `cargo xtask lint`: formatting, clippy for both targets, and documentation.

use std::env::consts::ARCH;

use anyhow::Result;

use crate::{command::Cmd, setup, stage};

/// All crates that are built for the host.
const HOST_CRATES: [&str; 3] = ["--workspace", "--exclude", "vipnat-ebpf"];

/// Sets the machine up and checks the whole workspace.
pub(crate) fn run() -> Result<()> {
    stage("setup");
    let toolchain = setup::run()?;
    setup::lint_tools(toolchain)?;

    stage("formatting");
    Cmd::cargo("fmt").args(["--all", "--check"]).run()?;

    stage("clippy");
    let deny = ["--", "-D", "warnings"];
    Cmd::cargo("clippy").args(HOST_CRATES).arg("--all-targets").args(deny).run()?;

    stage("clippy for the BPF target");
    // What aya-build sets for the real build; target-cpu comes from the folder's cargo config.
    toolchain
        .cargo("clippy")
        .folder("vipnat-ebpf")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""))
        .args(["--release", "--target", BPF_TARGET, "-Z", "build-std=core"])
        .args(deny)
        .run()?;

    stage("documentation");
    Cmd::cargo("doc").args(HOST_CRATES).arg("--no-deps").env("RUSTDOCFLAGS", "-Dwarnings").run()
}

const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
