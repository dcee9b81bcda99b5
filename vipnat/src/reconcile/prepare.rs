//! Prepares a change before anything is written. `apply` executes it, `--dry-run` prints it.

use vipnat_core::model::{Capacity, Desired};

use super::{diff::Diff, observe::Observed, recover::reclaim_copy};
use crate::kernel::error::{Error, Result};

/// A change that is prepared and not made yet.
pub(crate) struct Prepared {
    /// Whether the maps have room for it.
    pub(crate) room: Room,
    /// The change itself. Its slots are free once the maps have the room.
    pub(crate) diff: Diff,
}

/// The preparation that maps need before a change fits into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// None: the change fits.
    Enough,
    /// vipnat must free the retired slots.
    AfterReclaim,
    /// vipnat must replace the maps by larger ones.
    AfterGrowth(Capacity),
}

/// Prepares the change that makes the kernel match the desired state. Reads the observed state, writes
/// nothing.
///
/// If there is no room, the change is prepared for the maps as they will be: with all retired slots free, or
/// larger. Only a change with [`Room::Enough`] can be executed. In the other cases `apply` makes the room and
/// prepares again, because free slots may then be elsewhere.
///
/// # Errors
///
/// [`Error::Full`] if even the largest maps are too small; cgroups that are not in view.
pub(crate) fn prepare(desired: &Desired, observed: &Observed<'_>) -> Result<Prepared> {
    match prepare_in_place(desired, observed) {
        Err(Error::Full(_)) => {}
        other => return other,
    }
    let mut snapshot = observed.snapshot.clone();
    reclaim_copy(&mut snapshot);
    let reclaimed = observed.with_snapshot(snapshot);
    match Diff::new(desired, &reclaimed) {
        Err(Error::Full(_)) => {}
        other => return Ok(Prepared { room: Room::AfterReclaim, diff: other? }),
    }
    let capacity = larger(desired, &reclaimed)?;
    let mut snapshot = reclaimed.snapshot;
    snapshot.grow(capacity);
    let diff = Diff::new(desired, &observed.with_snapshot(snapshot))?;
    Ok(Prepared { room: Room::AfterGrowth(capacity), diff })
}

/// The same for maps that have the room.
///
/// # Errors
///
/// [`Error::Full`] if they do not have the room; cgroups that are not in view.
pub(crate) fn prepare_in_place(desired: &Desired, observed: &Observed<'_>) -> Result<Prepared> {
    Ok(Prepared { room: Room::Enough, diff: Diff::new(desired, observed)? })
}

/// The capacity that maps need for a change that does not fit into the observed ones.
fn larger(desired: &Desired, observed: &Observed<'_>) -> Result<Capacity> {
    let now = &observed.snapshot;
    let mut enough = now.clone();
    enough.grow(now.capacity.and(desired.capacity()));
    let Diff { plan, .. } = Diff::new(desired, &observed.with_snapshot(enough))?;
    let needed = plan.capacity_needed(now);
    needed.check()?;
    // The maps may have enough free slots, but not enough of them in a row.
    Ok(needed.with_room().at_least(now.capacity))
}
