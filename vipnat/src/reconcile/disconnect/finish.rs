//! Finishes a change: finds the connections that are due, ends them, and counts those that drain.

use std::time::{Duration, SystemTime};

use vipnat_core::model::Mappings;

use super::{
    due::Due,
    end_due::end,
    passes::still_due,
    pending_file::{clock, write},
    schedule::Scheduled,
};
use crate::{
    kernel::{error::Result, sockets::Search},
    reconcile::{
        context::Context,
        outcome::{Applied, Connections},
    },
    state::pending_disconnects::{PendingDisconnect, PendingDisconnects},
};

/// The disconnects that are due after a change, and those whose connections are only counted.
pub(crate) struct DueDisconnects {
    due: Vec<PendingDisconnect>,
    later: Vec<PendingDisconnect>,
    kept: bool,
    /// The time until the first of the others is due.
    next: Option<Duration>,
}

/// Finds the disconnects that are due now: those of the change, and all earlier ones. Call it after the
/// change, while the state is still locked. `mappings` finds those of the VIPs of removed backends.
/// `again`: those that failed count too, although they are due later.
pub(crate) fn finish(
    context: &Context,
    scheduled: Scheduled,
    mappings: impl FnOnce(&PendingDisconnects) -> Mappings,
    again: bool,
    warnings: &mut Vec<String>,
) -> Result<DueDisconnects> {
    let Scheduled { mut drains, mut later, mut kept } = scheduled;
    let clock = clock()?;
    if !drains.is_empty() {
        let mappings = mappings(&drains);
        drains.cancel_back(&mappings);
        later.retain(|drain| !drain.removed.is_back(&mappings));
        kept = write(context, &drains, warnings) && kept;
    }
    let now = clock.seconds();
    let due = if again { drains.due_or_failed(now) } else { drains.due(now) };
    Ok(DueDisconnects { due, later, kept, next: drains.next(clock.seconds()) })
}

/// Ends the connections that are due, and counts those that drain. The state is no longer locked.
pub(crate) fn disconnect(context: &Context, due: DueDisconnects, applied: &mut Applied) {
    let DueDisconnects { due, later, kept, next } = due;
    applied.next_due = next;
    if !due.is_empty() {
        (applied.ended, applied.next_due) = end(context, due, kept, &mut applied.warnings);
    }
    if !later.is_empty() {
        match count(context, later) {
            Ok(draining) => applied.draining = draining,
            Err(error) => {
                let error = anyhow::Error::from(error);
                let warning = format!("cannot count the connections that drain: {error:#}");
                applied.warnings.push(warning);
            }
        }
    }
}

/// Counts connections that drain, and returns when each ends.
fn count(
    context: &Context,
    later: Vec<PendingDisconnect>,
) -> Result<Vec<(Connections, SystemTime)>> {
    let (later, clock) = (Due::new(later), clock()?);
    let connections = Search::new(&context.dir)?.connections()?;
    let Some(still_due) = still_due(context, &later, false)? else {
        return Ok(Vec::new());
    };
    let mut counts = vec![0; later.drains.len()];
    for place in connections.iter().filter_map(|it| still_due.place(&later, it.record())) {
        counts[place] += 1;
    }
    let drains = later.drains.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    Ok(drains
        .map(|(PendingDisconnect { removed, due, .. }, count)| {
            (Connections { removed, count }, clock.shown(due))
        })
        .collect())
}
