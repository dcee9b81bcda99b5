//! `cargo xtask build`: the vipnat binary and the programs that its tests run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use xshell::{Cmd, Shell, cmd};

use crate::{
    command::{CmdExt as _, cargo, shell},
    progress::stage,
    setup,
};

/// Sets the machine up and builds, with optimisations if `release`.
pub(crate) fn run(release: bool) -> Result<()> {
    setup::run()?;
    stage("build");
    build(&shell(), ["vipnat", "vipnat-test-programs"])
        .args(release.then_some("--release"))
        .run_visibly()
}

/// Builds the programs that the tests run.
pub(crate) fn test_programs() -> Result<()> {
    // Tests of upgrades use two variants. The last build makes the plain one.
    for variant in ["other-build", "other-layout"] {
        build(&shell(), ["vipnat"]).args(["--bins", "--features", variant]).run_visibly()?;
        let built = target_directory()?.join("debug/vipnat");
        let kept = built.with_file_name(format!("vipnat-{variant}"));
        // Renames the file, since a test may be running the old one.
        let new = kept.with_extension("new");
        fs::copy(&built, &new)
            .and_then(|_| fs::rename(&new, &kept))
            .with_context(|| format!("copying {} to {}", built.display(), kept.display()))?;
    }
    build(&shell(), ["vipnat", "vipnat-test-programs"]).arg("--bins").run_visibly()
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let (sh, cargo) = (shell(), cargo());
    let metadata = cmd!(sh, "{cargo} metadata --no-deps --format-version 1").read_stdout()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata has no target")?;
    Ok(directory.into())
}

/// Copies all built programs into a folder, so that a later build does not change them.
pub(crate) fn keep_programs(folder: &Path) -> Result<()> {
    let built = target_directory()?.join("debug");
    let entries = fs::read_dir(&built).with_context(|| format!("reading {}", built.display()))?;
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && metadata.permissions().mode() & 0o100 != 0 {
            link_or_copy(&entry.path(), &folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The linker makes a new file, so a hard link keeps the current one.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Builds packages with optimisations.
pub(crate) fn release<const N: usize>(packages: [&str; N]) -> Result<()> {
    build(&shell(), packages).arg("--release").run_visibly()
}

/// Builds the vipnat binary alone.
pub(crate) fn vipnat() -> Result<()> {
    build(&shell(), ["vipnat"]).run_visibly()
}

fn build<'a, const N: usize>(sh: &'a Shell, packages: [&str; N]) -> Cmd<'a> {
    let cargo = cargo();
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    cmd!(sh, "{cargo} build {packages...}")
}
