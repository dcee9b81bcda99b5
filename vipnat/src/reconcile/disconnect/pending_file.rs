//! The file of pending disconnects, as commands read and change it.

use std::{collections::BTreeSet, time::Duration};

use vipnat_core::model::Mappings;

use crate::{
    kernel::{
        error::{Attempt as _, Result},
        maps::Maps,
    },
    reconcile::context::Context,
    state::{
        pending_disconnects::{Clock, PendingDisconnect, PendingDisconnects},
        state_dir::StateDir,
    },
};

/// The time after which vipnat tries a failed disconnect again, in seconds.
const AGAIN: u64 = 30;

/// The time now.
pub(crate) fn clock() -> Result<Clock> {
    Clock::now().attempt(|| "read the clock".to_owned())
}

/// Reads the file for a command that will write it.
pub(crate) fn read(
    context: &Context,
    clock: &Clock,
    warnings: &mut Vec<String>,
) -> Result<PendingDisconnects> {
    let taken = PendingDisconnects::take(&context.dir, clock, warnings);
    taken.attempt(|| "read the list of pending disconnects".to_owned())
}

/// Writes the file. Returns whether that succeeded; if not, also warns.
pub(crate) fn write(
    context: &Context,
    drains: &PendingDisconnects,
    warnings: &mut Vec<String>,
) -> bool {
    let saved = drains.save(&context.dir);
    warnings.extend(saved.as_ref().err().map(|error| {
        format!("cannot write the list of pending disconnects, so these connections stay: {error}")
    }));
    saved.is_ok()
}

/// The present mappings of the VIPs whose backends were removed.
pub(crate) fn mappings_now(
    dir: &StateDir,
    maps: &Maps,
    drains: &PendingDisconnects,
) -> Result<Mappings> {
    let now = if dir.is_changing()? { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    Ok(now.mappings_of(drains.vips()))
}

/// Removes completed disconnects from the file; another command may have changed the file meanwhile. Those at
/// the places `again` stay, and are due again later. Returns the time until the next ones are due.
pub(crate) fn remove_done(
    context: &Context,
    done: &[PendingDisconnect],
    again: &BTreeSet<usize>,
    warnings: &mut Vec<String>,
) -> Result<Option<Duration>> {
    let Some(_dir) = StateDir::open(&context.dir)? else {
        return Ok(None);
    };
    let clock = clock()?;
    let mut drains = read(context, &clock, warnings)?;
    let of = |failed| {
        let all = done.iter().enumerate();
        all.filter(move |(place, _)| again.contains(place) == failed).map(|(_, drain)| drain.id)
    };
    drains.take_out(&of(false).collect());
    drains.try_again(&of(true).collect(), clock.seconds() + AGAIN);
    let saved = drains.save(&context.dir);
    saved.attempt(|| "update the list of pending disconnects".to_owned())?;
    Ok(drains.next(clock.seconds()))
}
