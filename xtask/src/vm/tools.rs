//! QEMU, kmod and busybox from packages, with all dependencies. So every machine runs the same versions,
//! and nothing is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Cmd, Shell, cmd};

use super::packages::{Packages, Unpacked};

/// The QEMU of Debian 13 emulates faster than Debian 12's: docs/kernels.md.
const SUITES: &[&str] = &["trixie", "trixie-security"];

/// The folders of libraries in the packages.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// The unpacked packages.
pub(super) struct Tools {
    files: Unpacked,
}

impl Tools {
    /// Fetches the packages, if the cache lacks them.
    pub(super) fn get(cache: &Path) -> Result<Self> {
        let packages = Packages::new(cache.join("tools"), SUITES);
        let files = packages
            .unpacked(|packages| {
                packages.closure(&["qemu-system-x86", "virtiofsd", "kmod", "busybox-static"])
            })
            .context("QEMU can't be had")?;
        Ok(Self { files })
    }

    /// A program that needs no libraries.
    pub(super) fn busybox(&self) -> PathBuf {
        self.files.root.join("usr/bin/busybox")
    }

    pub(super) fn qemu<'a>(&self, sh: &'a Shell) -> Cmd<'a> {
        let firmware =
            ["usr/share/qemu", "usr/share/seabios"].map(|folder| self.files.root.join(folder));
        let firmware = firmware.iter().flat_map(|folder| [Path::new("-L"), folder]);
        self.program(sh, "usr/bin/qemu-system-x86_64", "qemu")
            .env("QEMU_MODULE_DIR", self.files.root.join(LIBRARIES[0]).join("qemu"))
            .args(firmware)
    }

    /// Serves a folder as a file system.
    pub(super) fn virtiofsd<'a>(&self, sh: &'a Shell) -> Cmd<'a> {
        self.program(sh, "usr/libexec/virtiofsd", "virtiofsd")
    }

    /// One of the commands of kmod.
    pub(super) fn kmod<'a>(&self, sh: &'a Shell, command: &str) -> Cmd<'a> {
        self.program(sh, "usr/bin/kmod", command)
    }

    /// Uses the loader and the libraries of the packages, since the machine may have other versions.
    fn program<'a>(&self, sh: &'a Shell, path: &str, name: &str) -> Cmd<'a> {
        let libraries = LIBRARIES.map(|folder| self.files.root.join(folder).display().to_string());
        let loader = self.files.root.join("usr/lib64/ld-linux-x86-64.so.2");
        let (libraries, program) = (libraries.join(":"), self.files.root.join(path));
        cmd!(sh, "{loader} --argv0 {name} --library-path {libraries} {program}")
    }
}
