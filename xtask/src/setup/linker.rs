//! bpf-linker: turns LLVM bitcode into the BPF object.

use std::{env, path::Path};

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::debian::Package;
use crate::{
    command::{self, CmdExt as _, cargo, shell},
    progress::say,
};

const VERSION: &str = "0.13.0";

/// Debian's LLVM 22. bpf-linker must use the same LLVM as rustc.
const LLVM: &str = "/usr/lib/llvm-22";

/// Packages that only its build needs.
const PACKAGES: &[Package] = &[
    Package {
        name: "llvm-22-dev",
        provides: "/usr/lib/llvm-22/lib/libLLVM.so",
        purpose: "bpf-linker is built against it",
        seconds: 30,
    },
    Package {
        name: "libpolly-22-dev",
        provides: "/usr/lib/llvm-22/lib/libPolly.a",
        purpose: "bpf-linker is built against it",
        seconds: 3,
    },
];

/// Whether a bpf-linker of the right version runs.
pub(super) fn is_there() -> bool {
    let sh = shell();
    // A bpf-linker that can't find its LLVM library fails here, and is built again.
    command::find("bpf-linker").is_some()
        && cmd!(sh, "bpf-linker --version")
            .read_stdout()
            .is_ok_and(|version| version.starts_with("bpf-linker 0.13."))
}

/// The Debian packages with which to build it. None if `LLVM_PREFIX` names another LLVM 22.
pub(super) fn packages() -> &'static [Package] {
    if env::var_os("LLVM_PREFIX").is_some() { &[] } else { PACKAGES }
}

/// Builds and installs it.
pub(super) fn install() -> Result<()> {
    say(
        "setup",
        &format!("building bpf-linker {VERSION}: links the BPF object (one to two minutes)"),
    );
    let llvm = env::var_os("LLVM_PREFIX").unwrap_or_else(|| LLVM.into());
    let (sh, cargo) = (shell(), cargo());
    cmd!(sh, "{cargo} install bpf-linker --version {VERSION} --locked")
        .env("LLVM_PREFIX", llvm)
        .args(["--no-default-features", "--features", "llvm-22"])
        // Replaces another version, or a broken one.
        .arg("--force")
        .run_quietly()?;
    let path = command::find("bpf-linker").context("bpf-linker was built but can't be found")?;
    let folder = path.parent().unwrap_or(Path::new(""));
    if !env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir == folder) {
        say(
            "setup",
            &format!("{} is not in PATH; a plain `cargo build` needs it there", folder.display()),
        );
    }
    Ok(())
}
