//! The pinned programs of a state directory, one for each hook.

use std::path::{Path, PathBuf};

use aya::programs::{CgroupSockAddr, CgroupSockAddrAttachType as Hook};
use vipnat_common::hooks::HOOKS;

use super::{
    bpf_syscall,
    error::{Attempt as _, Result},
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

    /// The path of the pin of a hook's program.
    pub(crate) fn pin(&self, hook: &str) -> PathBuf {
        self.dir.join(hook)
    }
}

/// Opens the pinned program of a hook, to attach it there. It does not parse the object for that: a
/// container waits for `vipnat attach`.
pub(crate) fn open_program(path: &Path, hook: &str) -> Result<CgroupSockAddr> {
    let pin = path.join(PROGRAMS).join(hook);
    CgroupSockAddr::from_pin(&pin, attach_type(hook)).attempt(|| format!("open {}", pin.display()))
}

/// The attach type of a hook, as aya names it.
fn attach_type(hook: &str) -> Hook {
    match hook {
        "getpeername4" => Hook::GetPeerName4,
        "getpeername6" => Hook::GetPeerName6,
        "recvmsg4" => Hook::UDPRecvMsg4,
        "recvmsg6" => Hook::UDPRecvMsg6,
        "connect4" => Hook::Connect4,
        "connect6" => Hook::Connect6,
        "sendmsg4" => Hook::UDPSendMsg4,
        _ => panic!("{hook} is no hook of vipnat"),
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_attach_type;

    use super::*;

    #[test]
    fn aya_and_the_list_of_hooks_mean_the_same_attach_types() {
        for (hook, number) in HOOKS {
            assert_eq!(bpf_attach_type::from(attach_type(hook)) as u32, number, "{hook}");
        }
    }
}
