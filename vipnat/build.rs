//! Builds the BPF objects, which `src/kernel/loader.rs` and `src/kernel/sockets/conn_records.rs` embed.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use aya_build::{Package, Toolchain};

/// Debian's second Rust package, which Debian keeps current for browsers. It has the source of the standard
/// library as a package. A toolchain without the rust-src component lacks that source.
const DEBIAN_RUST: &str = "/usr/lib/rustlib/src/rust/library/core";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    for input in ["vipnat-ebpf", "vipnat-common", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    // Cargo reads .cargo/config.toml from the folder in which it starts. That of vipnat-ebpf sets target-cpu.
    env::set_current_dir(root.join("vipnat-ebpf"))?;
    // SAFETY: a build script has one thread.
    unsafe {
        // build-std and target-cpu are unstable options, used with a stable compiler.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build makes a warning of every line that cargo prints.
        env::set_var("CARGO_TERM_QUIET", "true");
        if !own_toolchain_fits()? {
            ensure!(
                Path::new(DEBIAN_RUST).exists(),
                "the BPF object needs a Rust with LLVM 22 and the source of its core library; \
                 run `cargo xtask setup`, or `rustup component add rust-src`"
            );
            // If aya-build finds rustup, it asks rustup for the toolchain. So this removes rustup's folder
            // from PATH. The linker is in the same folder, so it is given by its path.
            let path = env::var_os("PATH").unwrap_or_default();
            if let Some(linker) = find("bpf-linker", &path) {
                env::set_var("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker);
                env::set_var("CARGO_TARGET_BPFEB_UNKNOWN_NONE_LINKER", &linker);
            }
            let tools = env::split_paths(&path).filter(|dir| !dir.join("rustup").exists());
            env::set_var("PATH", env::join_paths(["/usr/bin".into()].into_iter().chain(tools))?);
        }
    }
    // For the tests of upgrades; see Cargo.toml.
    let wanted = |name: &&str| {
        let variable = format!("CARGO_FEATURE_{}", name.to_uppercase().replace('-', "_"));
        env::var_os(variable).is_some()
    };
    let features: Vec<_> = ["other-build", "other-layout"].into_iter().filter(wanted).collect();
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    aya_build::build_ebpf(
        [Package {
            name: "vipnat-ebpf",
            root_dir: "../vipnat-ebpf",
            features: &features,
            ..Default::default()
        }],
        Toolchain::Custom(&toolchain),
    )
}

/// Whether this toolchain has its core library's source and the LLVM of bpf-linker.
fn own_toolchain_fits() -> Result<bool> {
    let rustc = env::var_os("RUSTC").context("RUSTC is not set")?;
    let ask = |args: &[&str]| -> Result<String> {
        Ok(String::from_utf8(Command::new(&rustc).args(args).output()?.stdout)?)
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    Ok(core.exists() && ask(&["-vV"])?.contains("\nLLVM version: 22."))
}

fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
