//! Applies a table: takes over, observes and recovers, prepares, and executes.

use std::{collections::BTreeMap, time::Duration};

use vipnat_core::{
    model::{Change, Desired, Place},
    plan::Plan,
    table::Table,
};

use super::{
    context::Context,
    diff::Diff,
    disconnect::{self, DueDisconnects},
    execute::{Executed, execute},
    flush::flush,
    observe::{self, Observed},
    outcome::{Applied, Flushed},
    prepare::{Prepared, Room, prepare, prepare_in_place},
    recover::{read_and_recover, reclaim},
    repair_pins::repair_pins,
    resolve::{MissingCgroup, resolve},
    upgrade::{migrate, take_over, upgrade},
};
use crate::{
    kernel::{
        compat,
        error::{Error, Result},
        maps::{Maps, Switch},
        preflight,
    },
    state::{
        links::{self, AttachedApp},
        name_index, staging,
        state_dir::StateDir,
    },
};

/// Finds the cgroups of a table once more; `None` if the desired state already has the ids of its cgroups.
type ResolveAgain<'a> = &'a mut dyn FnMut() -> Result<Option<Desired>>;

/// See [`Session::apply`](super::Session::apply).
pub(crate) fn apply(context: &Context, table: &Table, missing: MissingCgroup) -> Result<Applied> {
    preflight::check(compat::need(&context.dir))?;
    let (desired, mut contested) = resolve(context, table, missing)?;
    let mut resolve_again = || {
        let (desired, now) = resolve(context, table, missing)?;
        contested = now;
        Ok(Some(desired))
    };
    let mut applied = make(context, &desired, missing, Duration::ZERO, &mut resolve_again)?;
    applied.failed.extend(contested);
    Ok(applied)
}

/// See [`Session::apply_on_trial`](super::Session::apply_on_trial).
pub(crate) fn apply_on_trial(context: &Context, table: &Table, time: Duration) -> Result<Applied> {
    preflight::check(compat::need(&context.dir))?;
    let (desired, _) = resolve(context, table, MissingCgroup::Error)?;
    let mut resolve_again = || Ok(Some(resolve(context, table, MissingCgroup::Error)?.0));
    make(context, &desired, MissingCgroup::Error, time, &mut resolve_again)
}

/// See [`Session::restore`](super::Session::restore).
pub(crate) fn restore(
    context: &Context,
    before: &Desired,
    meanwhile: Option<&Desired>,
) -> Result<Applied> {
    if let Some(meanwhile) = meanwhile
        && !observe::current(context)?.same_table(meanwhile)
    {
        return Err(Error::Refused(
            "another process changed the state meanwhile, so it stays as it is now; \
             `vipnat list` shows it"
                .to_owned(),
        ));
    }
    if before.apps.is_empty() {
        let Flushed { found: _, warnings } = flush(context)?;
        return Ok(Applied { warnings, ..Applied::default() });
    }
    // The state is restored even if this fails.
    let forgotten = disconnect::forget_restored(context, before);
    let mut applied = make(context, before, MissingCgroup::Wait, Duration::ZERO, &mut || Ok(None))?;
    if let Err(error) = forgotten {
        applied.warnings.push(format!("{:#}", anyhow::Error::from(error)));
    }
    Ok(applied)
}

/// Makes the kernel match the desired state, then ends connections that are due.
fn make(
    context: &Context,
    desired: &Desired,
    missing: MissingCgroup,
    trial: Duration,
    resolve_again: ResolveAgain<'_>,
) -> Result<Applied> {
    let (mut applied, due) = change(context, desired, missing, trial, resolve_again)?;
    disconnect::disconnect(context, due, &mut applied);
    Ok(applied)
}

/// Makes the kernel match the desired state. The state stays locked until this returns.
fn change(
    context: &Context,
    desired: &Desired,
    missing: MissingCgroup,
    trial: Duration,
    resolve_again: ResolveAgain<'_>,
) -> Result<(Applied, DueDisconnects)> {
    desired.capacity().check()?;
    let dir = StateDir::create(&context.dir)?;
    let mut applied = Applied::default();

    let repaired = repair_pins(&dir)?;
    let condition = staging::condition(&dir)?;
    applied.warnings.extend(take_over(context, &dir, &condition, desired)?);
    applied.changes.extend(upgrade(&condition));

    let maps = Maps::open(dir.path())?;
    let interrupted = dir.is_changing()?;
    let (snapshot, recovered) = read_and_recover(&maps, interrupted)?;
    let (attached, names) = (links::read(&dir)?, name_index::load(&context.dir));
    let tree = context.tree()?;
    let others = context.others(dir.path(), &tree);
    applied.warnings.extend(names.problem().map(|problem| {
        format!(
            "{problem}. So the on-backend-removed policy of removed relationships is lost, and their \
             connections stay; vipnat writes the file anew"
        )
    }));
    if links::swap_programs(&dir, &attached)? > 0 && applied.changes.is_empty() {
        applied.changes.push(Change::Upgrade { layout: None });
    }
    let switch = Switch::open(dir.path())?;
    let observed = Observed {
        snapshot,
        attached: &attached,
        names: &names,
        last_app: maps.layout()?.last_app,
        switch: Some(&switch),
        others: &others,
    };

    let mut locked = Locked { context, dir: &dir, maps, observed, interrupted, recovered };
    let mut prepared = locked.prepare_with_room(desired, &mut applied)?;
    // Waiting for the lock may have taken long. Another command may meanwhile have attached a cgroup that the
    // table matches too. From now on no other command attaches any.
    let resolved = if prepared.diff.releases() { resolve_again()? } else { None };
    if let Some(resolved) = &resolved {
        prepared = prepare_in_place(resolved, &locked.observed)?;
    }
    let desired = resolved.as_ref().unwrap_or(desired);

    let Locked { context, dir, maps, observed, interrupted: _, recovered } = locked;
    let diff = &prepared.diff;
    let scheduled =
        disconnect::schedule(context, desired, diff, &observed, trial, &mut applied.warnings)?;
    let executed = execute(dir, &maps, &prepared, &observed, missing)?;
    let due = disconnect::finish(context, scheduled, &maps, &mut applied.warnings)?;
    if let Err(error) = name_index::save_instead_of(&desired.names, &names, &context.dir) {
        applied.warnings.push(format!("cannot keep the names for `vipnat list`: {error}"));
    }
    dir.end_change()?;
    dir.is_still_there()?;

    let repaired = recovered || repaired || diff.strays;
    report(&mut applied, prepared, executed, &attached, repaired);
    applied.warnings.extend(others.warning());
    Ok((applied, due))
}

/// The state while this command has its lock.
struct Locked<'a> {
    context: &'a Context,
    dir: &'a StateDir,
    maps: Maps,
    observed: Observed<'a>,
    /// A change was interrupted, so this command has read entries and slots.
    interrupted: bool,
    /// An interrupted change had left slots, and this command has retired them.
    recovered: bool,
}

impl Locked<'_> {
    /// Prepares the change, and makes room for it: frees retired slots, or moves the state into larger maps.
    /// Either changes where free slots are, so the change is prepared again after it.
    fn prepare_with_room(&mut self, desired: &Desired, applied: &mut Applied) -> Result<Prepared> {
        let mut prepared = prepare(desired, &self.observed)?;
        // Only after reading entries and slots it is certain that there is nothing to change.
        let nothing = prepared.room == Room::Enough && prepared.diff.plan == Plan::default();
        if nothing && !self.interrupted {
            (self.observed.snapshot, self.recovered) = read_and_recover(&self.maps, true)?;
            prepared = prepare(desired, &self.observed)?;
        }
        // It takes two steps to free a retired slot.
        while prepared.room != Room::Enough && reclaim(&self.maps, &mut self.observed.snapshot)? {
            prepared = prepare(desired, &self.observed)?;
        }
        if let Room::AfterGrowth(capacity) = prepared.room {
            let Self { context, dir, observed, .. } = self;
            let lost = migrate(context, dir, desired, capacity, observed.attached)?;
            applied.warnings.extend(lost);
            applied.changes.push(capacity.into());
            links::swap_programs(dir, observed.attached)?;
            self.maps = Maps::open(dir.path())?;
            observed.snapshot = self.maps.snapshot()?;
            observed.last_app = self.maps.layout()?.last_app;
            prepared = prepare_in_place(desired, observed)?;
        }
        Ok(prepared)
    }
}

/// Adds the changes that were made to `applied`: the prepared ones, except those that failed or were held
/// back.
fn report(
    applied: &mut Applied,
    prepared: Prepared,
    executed: Executed,
    attached: &[AttachedApp],
    repaired: bool,
) {
    let Prepared { room: _, diff } = prepared;
    let Diff { plan, changes, attach, owners: _, app_ids, strays: _, unseen } = diff;
    let Executed { failed, vanished, held } = executed;
    let old_ids: BTreeMap<_, _> = attached.iter().map(|app| (&app.name, app.app_id)).collect();
    let stays = |app: &String| {
        let app_id = app_ids.get(app).or_else(|| old_ids.get(app));
        app_id.is_some_and(|app_id| held.contains(app_id))
    };
    applied.changes.extend(changes.into_iter().filter(|change| match change {
        Change::Attach { id, .. } if vanished.contains(id) => false,
        Change::Attach { app, .. } => !failed.contains_key(app),
        Change::Detach { app } | Change::Leave { app, .. } => !stays(app),
        Change::Vip { new, old, .. } => {
            let app_id = old.as_ref().map(|mapping| mapping.app_id);
            new.is_some() || !app_id.is_some_and(|app_id| held.contains(&app_id))
        }
        Change::Upgrade { .. } | Change::Grow { .. } => true,
        Change::Expect { .. } | Change::Repair => true,
    }));
    let gone = attach.into_iter().filter(|attachment| vanished.contains(&attachment.cgroup));
    let gone = gone.map(|attachment| Change::Leave { app: attachment.app, cgroup: Place::Gone });
    applied.changes.extend(gone);
    let done = failed.is_empty() && plan != Plan::default();
    applied.failed.extend(failed.into_values());
    applied.warnings.extend(unseen);
    if applied.changes.is_empty() && (repaired || done) {
        applied.changes.push(Change::Repair);
    }
}
