//! Schedules the disconnects of a change before the change is made, and cancels scheduled ones.
//!
//! If the change is interrupted, the next command ends the connections.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Duration,
};

use vipnat_core::{
    model::{Desired, RemovedBackend, removed_backends, vips_without_policy},
    table::OnBackendRemoved,
};

use super::pending_file::{clock, read, write};
use crate::{
    kernel::error::{Attempt as _, Result},
    reconcile::{context::Context, diff::Diff, observe::ObservedApps},
    state::{
        links::AttachedApp,
        pending_disconnects::{Clock, Id, PendingDisconnect, PendingDisconnects},
        run_dir,
        state_dir::StateDir,
    },
};

/// The disconnects of a change before it is made.
pub(crate) struct Scheduled {
    /// All pending disconnects, also those of earlier changes.
    pub(crate) drains: PendingDisconnects,
    /// The disconnects of this change that leave the connections time to end by themselves.
    pub(crate) later: Vec<PendingDisconnect>,
    /// Whether the disconnects are in the file, where the next command finds them.
    pub(crate) kept: bool,
}

/// Notes which connections a change will end. Call it before the change.
pub(crate) fn schedule(
    context: &Context,
    desired: &Desired,
    diff: &Diff,
    observed: ObservedApps<'_>,
    trial: Duration,
    warnings: &mut Vec<String>,
) -> Result<Scheduled> {
    let clock = clock()?;
    let mut drains = read(context, &clock, warnings)?;
    let heirs = heirs(observed.attached, desired, diff);
    let (changes, names) = (&diff.changes, observed.names);
    let unknown = vips_without_policy(changes, desired, names, &heirs);
    if unknown > 0 && names.problem().is_none() {
        warnings.push(format!(
            "the on-backend-removed policy of {unknown} VIPs that lose backends is lost, so their \
             connections stay; was a file in {} removed?",
            run_dir::DIRECTORY
        ));
    }
    let mut later = Vec::new();
    let mount = context.tree().map(|tree| tree.mount().to_owned()).unwrap_or_default();
    for (removed, policy) in removed_backends(changes, desired, names, &heirs) {
        let Some(due) = due_time(policy, trial, &clock) else {
            continue;
        };
        let app = desired.apps.get(&removed.app);
        let cgroups: BTreeSet<_> = app.into_iter().flat_map(|app| app.cgroups.values()).collect();
        let cgroups = cgroups.into_iter().map(|path| mount.join(path)).collect();
        let on_trial = !trial.is_zero() && policy == OnBackendRemoved::Kill;
        let id = Id::default();
        let drain = PendingDisconnect { id, removed, cgroups, due, on_trial, again: false };
        if policy != OnBackendRemoved::Kill {
            later.push(drain.clone());
        }
        drains.push(drain);
    }
    let kept = write(context, &drains, warnings);
    Ok(Scheduled { drains, later, kept })
}

/// The time at which connections end, in seconds since the machine started; `None` if they stay.
fn due_time(policy: OnBackendRemoved, trial: Duration, clock: &Clock) -> Option<u64> {
    match policy {
        OnBackendRemoved::Keep => None,
        // They are due at once, also if a later command ends them.
        OnBackendRemoved::Kill if trial.is_zero() => Some(0),
        OnBackendRemoved::Kill => Some(clock.end_of_second() + trial.as_secs() + 1),
        OnBackendRemoved::Drain(seconds) => {
            Some(clock.end_of_second() + trial.as_secs() + u64::from(seconds))
        }
    }
}

/// The heirs of removed apps: the apps that get their cgroups, by the name of the removed app.
fn heirs<'a>(
    attached: &'a [AttachedApp],
    desired: &Desired,
    diff: &'a Diff,
) -> HashMap<&'a str, &'a str> {
    let gone = attached.iter().filter(|app| !desired.apps.contains_key(&app.name));
    gone.filter_map(|app| {
        let heir = app.cgroups().find_map(|cgroup| diff.owners.get(&cgroup))?;
        Some((app.name.as_str(), heir.as_str()))
    })
    .collect()
}

/// Cancels the disconnects of a change that is undone. Apps that the change removed come back with other app
/// ids, so vipnat would not recognise their backends.
pub(crate) fn forget_restored(context: &Context, restored: &Desired) -> Result<()> {
    let Some(dir) = StateDir::open(&context.dir)? else {
        return Ok(());
    };
    let forgotten = forget(context, &dir, |removed| {
        let app = restored.apps.get(&removed.app);
        let mappings = app.into_iter().flat_map(|app| &app.mappings);
        let mut mappings = mappings.filter(|mapping| mapping.vip == removed.vip);
        mappings.any(|mapping| mapping.turns.contains(&removed.backend))
    });
    forgotten.attempt(|| "clear the list of pending disconnects".to_owned())
}

/// Cancels some disconnects. The state must be locked: otherwise it could lose those that another command
/// schedules meanwhile. A file that can't be read stays as it is.
pub(crate) fn forget(
    context: &Context,
    _locked: &StateDir,
    which: impl Fn(&RemovedBackend) -> bool,
) -> io::Result<()> {
    let clock = Clock::now()?;
    let (mut drains, _) = PendingDisconnects::load(&context.dir, &clock)?;
    drains.cancel(which);
    drains.save(&context.dir)
}
