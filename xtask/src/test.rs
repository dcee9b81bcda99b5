//! `cargo xtask test`: every test of the workspace, as root.

use anyhow::{Result, ensure};
use nix::unistd::Uid;
use xshell::cmd;

use crate::{
    build,
    command::{CmdExt as _, cargo, shell},
    progress::stage,
    setup,
};

/// Sets the machine up, builds, and runs the tests whose names match `filters`. Without filters, it runs all
/// tests.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "the tests load BPF programs and make network namespaces, which needs root: \
         `sudo -E env PATH=\"$PATH\" cargo xtask test` (without root there are \
         `cargo test -p vipnat-core -p vipnat-common` and, after a setup, `cargo test -p vipnat`)"
    );
    stage("setup");
    setup::run()?;
    stage("build: vipnat and the programs that the tests run");
    build::test_programs()?;
    stage("test");
    let (sh, cargo) = (shell(), cargo());
    let mut test = cmd!(sh, "{cargo} test --workspace --exclude vipnat-ebpf");
    if !filters.is_empty() {
        // cargo itself takes only one filter. The test harness takes any number, and options.
        test = test.arg("--").args(filters);
    }
    test.run_visibly()
}
