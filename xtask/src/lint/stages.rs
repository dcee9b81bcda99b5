//! The stages of `cargo xtask lint`, in order.

use std::{env::consts::ARCH, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use xshell::cmd;

use super::structure;
use crate::{
    command::{CmdExt as _, cargo, root, shell},
    progress::stage,
    setup,
};

/// All crates that are built for the host.
const HOST_CRATES: [&str; 3] = ["--workspace", "--exclude", "vipnat-ebpf"];

/// Turns each warning into an error.
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
        // This stage needs only the sources.
        if wanted(Stage::Structure) {
            stage("structure");
            structure::check_tree(tree.as_deref().unwrap_or(root()))?;
        }
        if only == &[Stage::Structure] {
            return Ok(());
        }

        stage("setup");
        let toolchain = setup::run()?;
        setup::lint_tools(toolchain)?;
        let (sh, cargo) = (shell(), cargo());
        if wanted(Stage::Formatting) {
            stage("formatting");
            cmd!(sh, "{cargo} fmt --all --check").run_visibly()?;
        }
        if wanted(Stage::Clippy) {
            stage("clippy");
            cmd!(sh, "{cargo} clippy {HOST_CRATES...} --all-targets {DENY...}").run_visibly()?;
        }
        if wanted(Stage::ClippyBpf) {
            stage("clippy for the BPF target");
            // aya-build sets these for the real build; target-cpu comes from the folder's cargo config.
            let _folder = sh.push_dir("vipnat-ebpf");
            toolchain
                .cargo(&sh)
                .arg("clippy")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{ARCH}\""))
                .args(["--release", "--target", BPF_TARGET, "-Z", "build-std=core"])
                .args(DENY)
                .run_visibly()?;
        }
        if wanted(Stage::Documentation) {
            stage("documentation");
            cmd!(sh, "{cargo} doc {HOST_CRATES...} --no-deps")
                .env("RUSTDOCFLAGS", "-Dwarnings")
                .run_visibly()?;
        }
        Ok(())
    }
}
