//! Reads the maps back, and repairs the leftovers of an interrupted command.

use std::convert::Infallible;

use vipnat_core::{
    model::Snapshot,
    plan::{Plan, Reclaim, Step, execute},
};

use crate::{
    kernel::{error::Result, maps::Maps},
    state::state_dir::StateDir,
};

/// One in this many slots may stay retired. Freeing slots takes a grace period, and small changes avoid that.
const RETIRED_SHARE: usize = 16;

/// Reads the maps back, and retires slots that an interrupted command abandoned. Returns whether there
/// were any. What it writes begins a change.
///
/// `all`: read entries and slots. Otherwise the slots alone show the entries. That is faster, but only right
/// if no change was interrupted.
pub(crate) fn read_and_recover(dir: &StateDir, maps: &Maps, all: bool) -> Result<(Snapshot, bool)> {
    let mut now = if all { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    let tidy = Plan::tidy(&now);
    execute_on(dir, maps, &mut now, &tidy.steps())?;
    if now.leftover().count() > now.slots.len() / RETIRED_SHARE {
        reclaim(dir, maps, &mut now)?;
    }
    Ok((now, tidy != Plan::default()))
}

/// Waits for a grace period, after which no program can still read the retired slots, and empties them. Frees
/// slots that an earlier call emptied. Returns whether there were any.
pub(crate) fn reclaim(dir: &StateDir, maps: &Maps, now: &mut Snapshot) -> Result<bool> {
    let reclaim = Reclaim::new(now);
    execute_on(dir, maps, now, &reclaim.steps())?;
    Ok(reclaim != Reclaim::default())
}

/// Executes steps on the maps, and on the snapshot that was read from them.
fn execute_on(dir: &StateDir, maps: &Maps, now: &mut Snapshot, steps: &[Step<'_>]) -> Result<()> {
    if !steps.is_empty() {
        dir.begin_change()?;
    }
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
