//! The links that an app has on one cgroup.

use std::{
    io,
    path::{Path, PathBuf},
};

use vipnat_common::hooks::{HOOKS, is_hook};

use crate::kernel::{
    bpf_syscall::link_info,
    dir_names::names,
    error::{Attempt as _, Error, Result, StateDirError},
};

/// A directory of links, and the programs that they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) dir: PathBuf,
    /// The id of the program that each hook runs on the cgroup, in the order of [`HOOKS`]; `None` if the hook
    /// is not attached, or the cgroup is gone.
    pub(super) programs: [Option<u32>; HOOKS.len()],
    /// Whether any of these links is pinned.
    pinned: bool,
    /// Whether `vipnat attach` made them. Then no table has to name the cgroup.
    pub(super) by_hand: bool,
    /// Links of hooks that this build does not have, which another build made. Also a second directory for
    /// this cgroup.
    pub(super) others: Vec<PathBuf>,
}

impl Links {
    /// Reads the directory.
    pub(super) fn read(dir: PathBuf, cgroup: u64, by_hand: bool) -> Result<Self> {
        let mut programs = [None; HOOKS.len()];
        for ((hook, attach_type), program) in HOOKS.iter().zip(&mut programs) {
            *program = attached_program(&dir.join(hook), cgroup, *attach_type)?;
        }
        let (own, others): (Vec<_>, Vec<_>) =
            names(&dir)?.into_iter().partition(|name| is_hook(name));
        let others = others.into_iter().map(|name| dir.join(name)).collect();
        Ok(Self { dir, programs, pinned: !own.is_empty(), by_hand, others })
    }

    /// Whether every hook is attached.
    pub(super) fn complete(&self) -> bool {
        self.programs.iter().all(Option::is_some)
    }

    /// Whether links are pinned, and none is attached. Either the cgroup was removed, or a process detached
    /// them: the links look the same.
    pub(super) fn orphaned(&self) -> bool {
        self.pinned && self.programs.iter().all(Option::is_none)
    }
}

/// The id of the program that a pinned link runs on this hook of this cgroup.
pub(super) fn attached_program(pin: &Path, cgroup: u64, attach_type: u32) -> Result<Option<u32>> {
    match link_info(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(not_our_dir(pin.parent().unwrap_or(pin)))
        }
        other => {
            let info = other.attempt(|| format!("read {}", pin.display()))?;
            Ok((info.cgroup == cgroup && info.hook == attach_type).then_some(info.program))
        }
    }
}

/// The ids of the links that are pinned in a directory.
pub(super) fn link_ids(dir: &Path) -> Vec<u32> {
    let pins = HOOKS.iter().map(|(hook, _)| dir.join(hook));
    pins.filter_map(|pin| Some(link_info(&pin).ok()?.id)).collect()
}

/// A path below the directory of apps that vipnat did not make.
pub(super) fn not_our_dir(path: &Path) -> Error {
    StateDirError::NotOurs(path.to_owned()).into()
}
