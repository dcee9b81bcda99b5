//! Prints what an apply did, and fails if some apps could not be attached.

use anyhow::{Error, Result, bail};
use vipnat_core::text::count;

use crate::{
    cli::{
        describe::{describe_applied, describe_changes},
        output::{print, warn, warn_escaped},
    },
    input::with_reasons,
    kernel::error,
    reconcile::Applied,
};

const NOTHING: &str = "nothing to change\n";

/// Prints what an apply did; fails if it could not attach each app.
pub(super) fn report(applied: Applied) -> Result<()> {
    let text = describe_applied(&applied);
    let Applied { changes: _, ended: _, draining: _, next_due: _, warnings, failed } = applied;
    warnings.iter().for_each(|warning| warn(warning));
    print(if text.is_empty() { NOTHING } else { &text })?;
    fail_for(
        failed,
        "not attached (errors above); the old state stays in force there. Fix the cause and apply again",
    )
}

/// Prints what an apply would do; fails if it could not attach each app.
pub(super) fn report_dry_run(applied: Applied) -> Result<()> {
    let Applied { changes, ended: _, draining: _, next_due: _, warnings, failed } = applied;
    warnings.iter().for_each(|warning| warn(warning));
    print(&if changes.is_empty() {
        NOTHING.to_owned()
    } else {
        describe_changes(&changes) + "dry run: nothing was changed\n"
    })?;
    fail_for(failed, "cannot be attached (errors above); fix the cause before you apply")
}

/// Prints why each app failed, then fails with their number.
fn fail_for(failed: Vec<error::Error>, what: &str) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let apps = count(failed.len(), "app");
    for error in failed {
        warn_escaped(&with_reasons(&Error::from(error)));
    }
    bail!("{apps} {what}")
}
