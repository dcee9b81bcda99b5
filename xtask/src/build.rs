//! `cargo xtask build`: the vipnat binary and the programs that its tests run.

use anyhow::Result;

use crate::{command::Cmd, setup, stage};

/// Sets the machine up and builds, with optimisations if `release`.
pub(crate) fn run(release: bool) -> Result<()> {
    setup::run()?;
    stage("build");
    build(["vipnat", "vipnat-tests"]).args(release.then_some("--release")).run()
}

/// Builds what the tests need before they start: they run the binaries, not the libraries.
pub(crate) fn test_programs() -> Result<()> {
    build(["vipnat", "vipnat-tests"]).arg("--bins").run()
}

/// Builds the vipnat binary alone.
pub(crate) fn vipnat() -> Result<()> {
    build(["vipnat"]).run()
}

fn build<const N: usize>(packages: [&str; N]) -> Cmd {
    Cmd::cargo("build").args(packages.iter().flat_map(|package| ["--package", package]))
}
