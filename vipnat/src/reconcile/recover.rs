//! Reads the maps back, and puts in order what an interrupted command left.

use vipnat_common::Slot;
use vipnat_core::{
    model::Snapshot,
    plan::{Plan, Reclaim},
};

use crate::kernel::{error::Result, grace_period::wait, maps::Maps};

/// Which part of the slots may be retired before they are freed, which takes a grace period: small
/// changes go without.
const RETIRED_SHARE: usize = 16;

/// Reads the maps back and retires what an interrupted command left. Returns whether there was any.
/// If a change was interrupted, or nobody can tell, all has to be read.
pub(crate) fn settle(maps: &Maps, all: bool) -> Result<(Snapshot, bool)> {
    let mut now = if all { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    let Plan { retired, .. } = Plan::tidy(&now);
    maps.write_slots(&retired)?;
    for (index, slot) in &retired {
        now.slots[*index as usize] = Some(*slot);
    }
    if now.leftover().count() > now.slots.len() / RETIRED_SHARE {
        reclaim(maps, &mut now)?;
    }
    Ok((now, !retired.is_empty()))
}

/// Empties what is retired, once no program can still be reading it, and frees what was emptied before.
/// Returns whether there was any.
pub(crate) fn reclaim(maps: &Maps, now: &mut Snapshot) -> Result<bool> {
    let Reclaim { cursors, emptied, freed } = Reclaim::new(now);
    if emptied.is_empty() && freed.is_empty() {
        return Ok(false);
    }
    wait()?;
    maps.reset_cursors(&cursors)?;
    let emptied: Vec<_> = emptied.into_iter().map(|index| (index, Slot::EMPTIED)).collect();
    maps.write_slots(&emptied)?;
    maps.free_slots(&freed)?;
    for (index, slot) in emptied {
        now.slots[index as usize] = Some(slot);
    }
    for index in freed {
        now.slots[index as usize] = None;
    }
    Ok(true)
}
