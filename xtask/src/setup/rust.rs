//! The parts of Rust beyond the compiler: the source of its core library, rustfmt and clippy.
//!
//! The BPF target has no prebuilt core library, so it is built from source along with the hooks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Cmd, Shell, cmd};

use super::debian;
use crate::{
    command::{CmdExt as _, cargo, find, rustc, search_path, shell},
    progress::say,
};

/// The version of rustc's LLVM whose bitcode bpf-linker can read.
const LLVM: &str = "22.";

/// The directory of the core library in Debian's rust-web-src. vipnat's build script looks there too.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/src/rust/library/core";

/// The toolchain that builds the BPF object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BpfToolchain {
    /// The toolchain that builds everything else.
    Own,
    /// Debian's, because the toolchain in use has another LLVM or lacks the source.
    Debian,
}

impl BpfToolchain {
    /// This toolchain's cargo.
    pub(crate) fn cargo(self, sh: &Shell) -> Cmd<'_> {
        match self {
            Self::Own => sh.cmd(cargo()),
            Self::Debian => cmd!(sh, "/usr/bin/cargo")
                .env("PATH", search_path(["/usr/bin"]))
                .env_remove("RUSTC"),
        }
    }
}

/// Facts about the rustc in use.
pub(super) struct Rustc {
    core: PathBuf,
    llvm: String,
}

impl Rustc {
    /// Asks rustc for them.
    pub(super) fn query() -> Result<Self> {
        let (sh, rustc) = (shell(), rustc());
        let sysroot = cmd!(sh, "{rustc} --print sysroot").read_stdout()?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        let llvm = llvm_version(sh.cmd(rustc)).context("rustc doesn't say which LLVM it has")?;
        Ok(Self { core, llvm })
    }

    /// The toolchain that can build the BPF object now, if there is one.
    pub(super) fn bpf_toolchain(&self) -> Option<BpfToolchain> {
        if self.llvm.starts_with(LLVM) && self.core.exists() {
            return Some(BpfToolchain::Own);
        }
        let sh = shell();
        let debian = Path::new(DEBIAN_CORE).exists()
            && Path::new("/usr/bin/cargo").exists()
            && llvm_version(cmd!(sh, "/usr/bin/rustc")).is_some_and(|llvm| llvm.starts_with(LLVM));
        debian.then_some(BpfToolchain::Debian)
    }

    /// Installs the source of the core library, for the toolchain in use or with Debian's toolchain.
    pub(super) fn install_core_source(&self) -> Result<BpfToolchain> {
        let reason = if !self.llvm.starts_with(LLVM) {
            format!("this rustc has LLVM {}, and the BPF object needs LLVM 22", self.llvm)
        } else if find("rustup").is_none() {
            "this Rust is not rustup's, which could add the source of its core library".to_owned()
        } else {
            say("setup", "adding rust-src: the BPF target's core library is built from it");
            match add_components(&["rust-src"]) {
                Ok(()) if self.core.exists() => return Ok(BpfToolchain::Own),
                Ok(()) => format!("rustup added rust-src, but not as {}", self.core.display()),
                Err(error) => format!("{error:#}"),
            }
        };
        say("setup", &format!("Debian's own Rust has to build the BPF object, because {reason}"));
        debian::install_rust(&[])
            .context("the source of Rust's core library (component rust-src) can't be had")?;
        self.bpf_toolchain().context("Debian's Rust is installed, but is not the one with LLVM 22")
    }
}

/// Installs rustfmt, and clippy for both targets.
pub(crate) fn lint_tools(toolchain: BpfToolchain) -> Result<()> {
    let (sh, cargo) = (shell(), cargo());
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        // rustup has a program of that name, even if the component is missing.
        if cmd!(sh, "{cargo} {subcommand} --version").read_stdout().is_ok() {
            continue;
        }
        if find("rustup").is_none() {
            bail!(
                "lint needs {component}, which this Rust lacks; its distributor has it \
                 (Debian: rustfmt-web, rust-web-clippy)"
            );
        }
        say("setup", &format!("adding {component}"));
        add_components(&[component]).with_context(|| format!("lint needs {component}"))?;
    }
    if let BpfToolchain::Debian = toolchain
        && !Path::new("/usr/bin/cargo-clippy").exists()
    {
        debian::install_rust(&["rust-web-clippy"])?;
    }
    Ok(())
}

/// Adds components to the toolchain in use, which rustup's cargo names in the environment.
fn add_components(components: &[&str]) -> Result<()> {
    let sh = shell();
    cmd!(sh, "rustup component add {components...}").run_quietly()
}

fn llvm_version(rustc: Cmd<'_>) -> Option<String> {
    let about = rustc.arg("-vV").read_stdout().ok()?;
    about.lines().find_map(|line| line.strip_prefix("LLVM version: ")).map(str::to_owned)
}
