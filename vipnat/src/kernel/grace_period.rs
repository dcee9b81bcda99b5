//! Waits until no program runs that began before.

use super::{
    bpf_syscall::wait_for_programs,
    error::{Attempt as _, Result},
};

/// Waits until no program decides by what the maps held when this was called.
pub(crate) fn wait() -> Result<()> {
    wait_for_programs().attempt(|| "wait for running programs".to_owned())
}
