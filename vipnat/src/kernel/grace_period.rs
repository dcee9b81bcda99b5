//! Waits for programs that may still use old values of the maps.

use super::{
    bpf_syscall::wait_for_programs,
    error::{Attempt as _, Result},
};

/// Waits until every program that runs now has ended. Later ones see the present values of the maps.
pub(crate) fn wait() -> Result<()> {
    wait_for_programs().attempt(|| "wait for running programs".to_owned())
}
