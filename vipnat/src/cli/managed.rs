//! Keeps verbs from changing a state that a `vipnat run` manages.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::state::run_lock::RunLock;

/// Describes the `vipnat run` that manages this state, if there is one.
pub(crate) fn manager(bpffs: &Path) -> Result<Option<String>> {
    RunLock::holder(bpffs).with_context(|| {
        let state = bpffs.display();
        format!("cannot tell whether a `vipnat run` manages {state}, which would undo this")
    })
}

/// Fails if a `vipnat run` manages this state, since it would undo the change.
pub(crate) fn refuse_if_managed(bpffs: &Path) -> Result<()> {
    match manager(bpffs)? {
        None => Ok(()),
        Some(who) => bail!(
            "`vipnat run` ({who}) manages {} and would undo this; edit the table that it follows, or \
             stop that process",
            bpffs.display()
        ),
    }
}
