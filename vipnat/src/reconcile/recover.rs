//! Reads the maps back, and repairs the leftovers of an interrupted command.

use std::convert::Infallible;

use vipnat_core::{
    model::Snapshot,
    plan::{Plan, Reclaim, Step, execute},
};

use crate::kernel::{error::Result, maps::Maps};

/// One in this many slots may stay retired. Freeing slots takes a grace period, and small changes avoid that.
const RETIRED_SHARE: usize = 16;

/// Maps that were read back, without the leftovers of an interrupted command.
pub(crate) struct Recovered {
    pub(crate) snapshot: Snapshot,
    /// An interrupted command had left slots, and they are retired now.
    pub(crate) repaired: bool,
    /// Slots were written.
    pub(crate) wrote: bool,
}

/// Reads the maps back, and retires slots that an interrupted command abandoned.
///
/// `all`: read entries and slots. Otherwise the slots alone show the entries. That is faster, but only right
/// if no change was interrupted.
pub(crate) fn read_and_recover(maps: &Maps, all: bool) -> Result<Recovered> {
    let mut now = if all { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    let tidy = Plan::tidy(&now);
    execute_on(maps, &mut now, &tidy.steps())?;
    let repaired = tidy != Plan::default();
    let mut wrote = repaired;
    if now.leftover().count() > now.slots.len() / RETIRED_SHARE {
        wrote |= reclaim(maps, &mut now)?;
    }
    Ok(Recovered { snapshot: now, repaired, wrote })
}

/// Waits for a grace period, after which no program can still read the retired slots, and empties them. Frees
/// slots that an earlier call emptied. Returns whether there were any.
pub(crate) fn reclaim(maps: &Maps, now: &mut Snapshot) -> Result<bool> {
    let reclaim = Reclaim::new(now);
    execute_on(maps, now, &reclaim.steps())?;
    Ok(reclaim != Reclaim::default())
}

/// Executes steps on the maps, and on the snapshot that was read from them.
fn execute_on(maps: &Maps, now: &mut Snapshot, steps: &[Step<'_>]) -> Result<()> {
    maps.execute(steps)?;
    execute_on_copy(now, steps);
    Ok(())
}

/// Executes steps on a snapshot alone.
pub(crate) fn execute_on_copy(now: &mut Snapshot, steps: &[Step<'_>]) {
    let Ok::<(), Infallible>(()) = execute(steps, now);
}

/// Does to a snapshot what [`read_and_recover`] does to the maps. Returns whether there was anything to
/// retire.
pub(crate) fn recover_copy(now: &mut Snapshot) -> bool {
    let tidy = Plan::tidy(now);
    execute_on_copy(now, &tidy.steps());
    tidy != Plan::default()
}

/// Does to a snapshot what [`reclaim`] does to the maps, until all retired slots are free.
pub(crate) fn reclaim_copy(now: &mut Snapshot) {
    loop {
        let reclaim = Reclaim::new(now);
        if reclaim == Reclaim::default() {
            return;
        }
        execute_on_copy(now, &reclaim.steps());
    }
}
