//! Ends the connections that are due, and removes their disconnects from the file.

use std::time::Duration;

use vipnat_core::model::RemovedBackend;

use super::{
    due::Due,
    passes::end_in_passes,
    pending_file::{clock, mappings_now, read, remove_done, write},
    progress::Progress,
};
use crate::{
    kernel::{
        error::Result,
        grace_period::wait,
        preflight::{self, Privilege},
    },
    reconcile::{
        context::Context,
        outcome::{Connections, Drained},
    },
    state::pending_disconnects::{PendingDisconnect, PendingDisconnects},
};

/// See [`Session::end_drained`](crate::reconcile::Session::end_drained).
pub(crate) fn end_drained(context: &Context) -> Result<Drained> {
    end_drained_after(context, |_| {})
}

/// See [`Session::end_trial`](crate::reconcile::Session::end_trial).
pub(crate) fn end_trial(context: &Context) -> Result<Drained> {
    end_drained_after(context, PendingDisconnects::confirm)
}

fn end_drained_after(
    context: &Context,
    first: impl FnOnce(&mut PendingDisconnects),
) -> Result<Drained> {
    preflight::check(Privilege::UsePins)?;
    let clock = clock()?;
    let mut drained = Drained::default();
    let (due, kept) = {
        let Some((dir, maps)) = context.open()? else {
            return Ok(drained);
        };
        let mut drains = read(context, &clock, &mut drained.warnings)?;
        if drains.is_empty() {
            return Ok(drained);
        }
        first(&mut drains);
        drains.cancel_back(&mappings_now(&dir, &maps, &drains)?);
        drained.next = drains.next(clock.seconds());
        let kept = write(context, &drains, &mut drained.warnings);
        (drains.due(clock.seconds()), kept)
    };
    if due.is_empty() {
        return Ok(drained);
    }
    let (ended, next) = end(context, due, kept, &mut drained.warnings);
    (drained.ended, drained.next) = (ended, next);
    Ok(drained)
}

/// Ends the connections that are due, and removes their disconnects from the file. Also returns the time
/// until the next ones are due. `kept`: the disconnects are in the file.
pub(crate) fn end(
    context: &Context,
    due: Vec<PendingDisconnect>,
    kept: bool,
    warnings: &mut Vec<String>,
) -> (Vec<Connections>, Option<Duration>) {
    let due = Due::new(due);
    let mut progress = Progress::of(due.drains.len());
    let ended = wait().and_then(|()| end_in_passes(context, &due, kept, &mut progress));
    if let Err(error) = ended {
        progress.failed(0..due.drains.len(), error);
    }
    let again = progress.again();
    let failures = progress.warnings(&due, kept);
    let Progress { counts, stay, .. } = progress;
    warnings.extend(stay.into_iter().map(|((place, why), count)| {
        let RemovedBackend { app, relationship, vip, backend, app_id: _ } =
            &due.drains[place].removed;
        let name = relationship.as_deref().unwrap_or("?");
        let connections = if count == 1 { "connection" } else { "connections" };
        format!("app {app:?}: {count} {connections} to {} of {name} {vip} stay: {why}", backend.ip)
    }));
    warnings.extend(failures);
    let done: &[_] = if kept { &due.drains } else { &[] };
    let next = match remove_done(context, done, &again, warnings) {
        Ok(next) => next,
        Err(error) => {
            let error = anyhow::Error::from(error);
            warnings.push(format!("{error:#}; the next `vipnat apply` looks for them again"));
            None
        }
    };
    let ended = due.drains.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    let ended =
        ended.map(|(PendingDisconnect { removed, .. }, count)| Connections { removed, count });
    (ended.collect(), next)
}
