//! Reads the maps back, and puts in order what an interrupted command left.

use std::convert::Infallible;

use vipnat_core::{
    model::Snapshot,
    plan::{Plan, Reclaim, Step, execute},
};

use crate::kernel::{error::Result, maps::Maps};

/// Which part of the slots may be retired before they are freed, which takes a grace period: small
/// changes go without.
const RETIRED_SHARE: usize = 16;

/// Reads the maps back and retires what an interrupted command left. Returns whether there was any.
/// If a change was interrupted, or nobody can tell, all has to be read.
pub(crate) fn settle(maps: &Maps, all: bool) -> Result<(Snapshot, bool)> {
    let mut now = if all { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    let tidy = Plan::tidy(&now);
    execute_on(maps, &mut now, &tidy.steps())?;
    if now.leftover().count() > now.slots.len() / RETIRED_SHARE {
        reclaim(maps, &mut now)?;
    }
    Ok((now, tidy != Plan::default()))
}

/// Empties what is retired, once no program can still be reading it, and frees what was emptied before.
/// Returns whether there was any.
pub(crate) fn reclaim(maps: &Maps, now: &mut Snapshot) -> Result<bool> {
    let reclaim = Reclaim::new(now);
    execute_on(maps, now, &reclaim.steps())?;
    Ok(reclaim != Reclaim::default())
}

/// Carries steps out on the maps, and on the snapshot that was read from them.
fn execute_on(maps: &Maps, now: &mut Snapshot, steps: &[Step<'_>]) -> Result<()> {
    maps.execute(steps)?;
    let Ok::<(), Infallible>(()) = execute(steps, now);
    Ok(())
}
