//! Builds the BPF object, which `src/datapath/object.rs` embeds.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use aya_build::{Package, Toolchain};

/// Debian's second Rust, kept current for browsers: has the standard library's source as a
/// package, which is what a toolchain without the rust-src component lacks.
const DEBIAN_RUST: &str = "/usr/lib/rustlib/src/rust/library/core";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    for input in ["vipnat-ebpf", "vipnat-common", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    // Cargo reads .cargo/config.toml from the folder it is started in; this one sets target-cpu.
    env::set_current_dir(root.join("vipnat-ebpf"))?;
    let sysroot = Command::new(env::var_os("RUSTC").context("RUSTC is not set")?)
        .args(["--print", "sysroot"])
        .output()?;
    let sysroot = String::from_utf8(sysroot.stdout)?;
    let own_source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    // SAFETY: a build script has one thread.
    unsafe {
        // build-std and target-cpu are unstable options, used with a stable compiler.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        if !own_source.exists() {
            ensure!(
                Path::new(DEBIAN_RUST).exists(),
                "the BPF object needs the source of Rust's core library, which this toolchain \
                 lacks; run `cargo xtask setup`, or `rustup component add rust-src`"
            );
            // aya-build asks rustup for the toolchain if it finds one.
            let tools = env::var_os("PATH").unwrap_or_default();
            let tools = env::split_paths(&tools).filter(|dir| !dir.join("rustup").exists());
            env::set_var("PATH", env::join_paths(["/usr/bin".into()].into_iter().chain(tools))?);
        }
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    aya_build::build_ebpf(
        [Package { name: "vipnat-ebpf", root_dir: "../vipnat-ebpf", ..Default::default() }],
        Toolchain::Custom(&toolchain),
    )
}
