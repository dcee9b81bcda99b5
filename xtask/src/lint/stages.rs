//! The stages of `cargo xtask lint`, in their order.

use std::{env::consts::ARCH, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::structure;
use crate::{
    command::{Cmd, root},
    setup, stage,
};

/// All crates that are built for the host.
const HOST_CRATES: [&str; 3] = ["--workspace", "--exclude", "vipnat-ebpf"];

/// Makes an error of each warning.
const DENY: [&str; 3] = ["--", "-D", "warnings"];

const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

#[derive(Args)]
pub(crate) struct Lint {
    /// Run only these stages.
    #[arg(long, num_args = 1.., value_name = "STAGE")]
    only: Vec<Stage>,
    /// Check the structure of another tree, such as a worktree.
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// rustfmt.
    Formatting,
    /// Layers, circles, `unsafe`, file headers, and paths in documents.
    Structure,
    /// clippy for the host.
    Clippy,
    /// clippy for the BPF target.
    ClippyBpf,
    /// rustdoc.
    Documentation,
}

impl Lint {
    /// Sets the machine up and checks the whole workspace.
    pub(crate) fn run(&self) -> Result<()> {
        let Self { only, tree } = self;
        let wanted = |stage| only.is_empty() || only.contains(&stage);
        // It needs nothing but the sources.
        if only.contains(&Stage::Structure) {
            stage("structure");
            structure::check_tree(tree.as_deref().unwrap_or(root()))?;
        }
        if only == &[Stage::Structure] {
            return Ok(());
        }

        stage("setup");
        let toolchain = setup::run()?;
        setup::lint_tools(toolchain)?;
        if wanted(Stage::Formatting) {
            stage("formatting");
            Cmd::cargo("fmt").args(["--all", "--check"]).run()?;
        }
        if wanted(Stage::Clippy) {
            stage("clippy");
            Cmd::cargo("clippy").args(HOST_CRATES).arg("--all-targets").args(DENY).run()?;
        }
        if wanted(Stage::ClippyBpf) {
            stage("clippy for the BPF target");
            // aya-build sets these for the real build; target-cpu comes from the folder's cargo config.
            toolchain
                .cargo("clippy")
                .folder("vipnat-ebpf")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""))
                .args(["--release", "--target", BPF_TARGET, "-Z", "build-std=core"])
                .args(DENY)
                .run()?;
        }
        if wanted(Stage::Documentation) {
            stage("documentation");
            let doc = Cmd::cargo("doc").args(HOST_CRATES).arg("--no-deps");
            doc.env("RUSTDOCFLAGS", "-Dwarnings").run()?;
        }
        Ok(())
    }
}
