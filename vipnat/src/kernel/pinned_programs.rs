//! The pinned programs.

use std::path::{Path, PathBuf};

use aya::programs::{CgroupSockAddr, CgroupSockAddrAttachType as Hook};

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
    pins::{HOOKS, PROGRAMS},
};

/// The pinned programs.
pub(crate) struct Programs {
    dir: PathBuf,
    ids: [u32; HOOKS.len()],
}

impl Programs {
    /// Looks them up.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let dir = path.join(PROGRAMS);
        let mut ids = [0; HOOKS.len()];
        for ((hook, _), id) in HOOKS.iter().zip(&mut ids) {
            let pin = dir.join(hook);
            *id = bpf_syscall::program_id(&pin).attempt(|| format!("open {}", pin.display()))?;
        }
        Ok(Self { dir, ids })
    }

    /// The id of each, in the order of [`HOOKS`].
    pub(crate) fn ids(&self) -> [u32; HOOKS.len()] {
        self.ids
    }

    /// Where the program of a hook is pinned.
    pub(crate) fn pin(&self, hook: &str) -> PathBuf {
        self.dir.join(hook)
    }
}

/// Opens a pinned program.
pub(crate) fn program(path: &Path, name: &str, hook: Hook) -> Result<CgroupSockAddr> {
    let pin = path.join(PROGRAMS).join(name);
    CgroupSockAddr::from_pin(&pin, hook).attempt(|| format!("open {}", pin.display()))
}
