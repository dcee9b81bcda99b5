//! The pinned programs of a state directory, one for each hook.

use std::path::{Path, PathBuf};

use aya::programs::CgroupSockAddr;
use aya_obj::ProgramSection;
use vipnat_common::hooks::HOOKS;

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
    loader::object,
    pins::PROGRAMS,
};

/// The directory of the pinned programs, and their ids.
pub(crate) struct Programs {
    dir: PathBuf,
    ids: [u32; HOOKS.len()],
}

impl Programs {
    /// Reads the ids of the programs of a state directory.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let dir = path.join(PROGRAMS);
        let mut ids = [0; HOOKS.len()];
        for ((hook, _), id) in HOOKS.iter().zip(&mut ids) {
            let pin = dir.join(hook);
            *id = bpf_syscall::program_id(&pin).attempt(|| format!("open {}", pin.display()))?;
        }
        Ok(Self { dir, ids })
    }

    /// The id of each program, in the order of [`HOOKS`].
    pub(crate) fn ids(&self) -> [u32; HOOKS.len()] {
        self.ids
    }

    /// Where the program of a hook is pinned.
    pub(crate) fn pin(&self, hook: &str) -> PathBuf {
        self.dir.join(hook)
    }
}

/// Opens the pinned program of a hook, to attach it where the object says.
pub(crate) fn open_program(path: &Path, hook: &str) -> Result<CgroupSockAddr> {
    let pin = path.join(PROGRAMS).join(hook);
    let section = object().programs.get(hook).map(|program| &program.section);
    let Some(ProgramSection::CgroupSockAddr { attach_type }) = section else {
        panic!("the object has a sock_addr program {hook}");
    };
    CgroupSockAddr::from_pin(&pin, *attach_type).attempt(|| format!("open {}", pin.display()))
}
