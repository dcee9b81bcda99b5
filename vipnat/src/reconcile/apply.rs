//! Applies a table: takes over, observes and recovers, prepares, and executes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use vipnat_common::AppId;
use vipnat_core::{
    model::{Change, Desired, NameIndex, Place, Snapshot},
    plan::Plan,
    table::Table,
};

use super::{
    context::Context,
    diff::Diff,
    disconnect::{self, DueDisconnects},
    execute::{Executed, execute},
    flush::flush,
    observe::{self, Observed, ObservedApps},
    outcome::{Applied, Flushed},
    prepare::{Prepared, Room, prepare, prepare_in_place},
    recover::{execute_on_copy, read_and_recover, reclaim},
    repair_pins::repair_pins,
    resolve::{MissingCgroup, resolve},
    upgrade::{migrate, take_over, upgrade},
};
use crate::{
    kernel::{
        compat,
        error::{Error, Result},
        maps::{Maps, Switch},
        pinned_ids::PinnedIds,
        preflight,
    },
    state::{
        links::{self, AttachedApp},
        name_index,
        pending_disconnects::PendingDisconnects,
        staging::{self, Condition},
        state_dir::{Generation, StateDir},
    },
};

/// Finds the cgroups of a table once more; `None` if the desired state already has the ids of its cgroups.
type ResolveAgain<'a> = &'a mut dyn FnMut() -> Result<Option<Desired>>;

/// How to apply a table.
#[derive(Clone, Copy)]
struct How {
    missing: MissingCgroup,
    /// The time for which connections of removed backends stay at least.
    trial: Duration,
    /// Whether the caller goes on from what the apply leaves.
    keep: bool,
}

impl How {
    fn new(missing: MissingCgroup) -> Self {
        Self { missing, trial: Duration::ZERO, keep: false }
    }
}

/// What an apply left, for an agent that goes on from there.
pub(crate) struct Left {
    /// The pinned maps.
    pub(crate) maps: Maps,
    /// Their content.
    pub(crate) snapshot: Snapshot,
    /// The names in the name index.
    pub(crate) names: NameIndex,
    /// Whether its file could be written.
    pub(crate) names_saved: bool,
    /// The app id of each app.
    pub(crate) app_ids: BTreeMap<String, AppId>,
    /// The apps that are not as the table says, because of a failure.
    pub(crate) unsettled: BTreeSet<String>,
    /// The state after the change.
    pub(crate) generation: Option<Generation>,
    /// The pinned objects.
    pub(crate) pins: PinnedIds,
}

/// See [`Session::apply`](super::Session::apply).
pub(crate) fn apply(context: &Context, table: &Table, missing: MissingCgroup) -> Result<Applied> {
    Ok(apply_table(context, table, How::new(missing))?.0)
}

/// See [`Session::apply_and_keep`](super::Session::apply_and_keep).
pub(crate) fn apply_and_keep(
    context: &Context,
    table: &Table,
    missing: MissingCgroup,
) -> Result<(Applied, Left)> {
    let how = How { keep: true, ..How::new(missing) };
    let (applied, left) = apply_table(context, table, how)?;
    Ok((applied, left.expect("it is kept")))
}

/// See [`Session::apply_on_trial`](super::Session::apply_on_trial).
pub(crate) fn apply_on_trial(context: &Context, table: &Table, time: Duration) -> Result<Applied> {
    let how = How { trial: time, ..How::new(MissingCgroup::Error) };
    Ok(apply_table(context, table, how)?.0)
}

fn apply_table(context: &Context, table: &Table, how: How) -> Result<(Applied, Option<Left>)> {
    preflight::check(compat::need(&context.dir))?;
    let (desired, mut contested) = resolve(context, table, how.missing)?;
    let mut resolve_again = || {
        let (desired, now) = resolve(context, table, how.missing)?;
        contested = now;
        Ok(Some(desired))
    };
    let (mut applied, mut left) = make(context, &desired, how, &mut resolve_again)?;
    if let Some(left) = &mut left {
        left.unsettled.extend(contested.iter().flat_map(Error::apps).cloned());
    }
    applied.failed.extend(contested);
    Ok((applied, left))
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
    let how = How::new(MissingCgroup::Wait);
    let (mut applied, _) = make(context, before, how, &mut || Ok(None))?;
    if let Err(error) = forgotten {
        applied.warnings.push(format!("{:#}", anyhow::Error::from(error)));
    }
    Ok(applied)
}

/// Makes the kernel match the desired state, then ends connections that are due.
fn make(
    context: &Context,
    desired: &Desired,
    how: How,
    resolve_again: ResolveAgain<'_>,
) -> Result<(Applied, Option<Left>)> {
    let (mut applied, due, left) = change(context, desired, how, resolve_again)?;
    disconnect::disconnect(context, due, &mut applied);
    Ok((applied, left))
}

/// Makes the kernel match the desired state. The state stays locked until this returns.
fn change(
    context: &Context,
    desired: &Desired,
    How { missing, trial, keep }: How,
    resolve_again: ResolveAgain<'_>,
) -> Result<(Applied, DueDisconnects, Option<Left>)> {
    desired.capacity().check()?;
    let dir = StateDir::create(&context.dir)?;
    let mut applied = Applied::default();

    let repaired = repair_pins(&dir)?;
    let condition = staging::condition(&dir)?;
    applied.warnings.extend(take_over(context, &dir, &condition, desired)?);
    applied.changes.extend(upgrade(&condition));

    let maps = Maps::open(dir.path())?;
    // An agent trusts what is kept, so it must have been read.
    let read_all = dir.is_changing()? || keep;
    let (snapshot, recovered) = read_and_recover(&dir, &maps, read_all)?;
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
        apps: ObservedApps {
            attached: &attached,
            names: &names,
            last_app: maps.layout()?.last_app,
            switch: Some(&switch),
            others: &others,
        },
    };

    let mut locked = Locked { context, dir: &dir, maps, observed, read_all, recovered };
    let mut prepared = locked.prepare_with_room(desired, &mut applied)?;
    // Waiting for the lock may have taken long. Another command may meanwhile have attached a cgroup that the
    // table matches too. From now on no other command attaches any.
    let resolved = if prepared.diff.releases() { resolve_again()? } else { None };
    if let Some(resolved) = &resolved {
        prepared = prepare_in_place(resolved, &locked.observed)?;
    }
    let desired = resolved.as_ref().unwrap_or(desired);

    let Locked { context, dir, maps, observed, read_all: _, recovered } = locked;
    let Observed { snapshot, apps } = observed;
    let diff = &prepared.diff;
    let replaced = condition != Condition::Current;
    if replaced || diff.is_change(&attached) || names != desired.names {
        dir.begin_change()?;
    }
    let scheduled =
        disconnect::schedule(context, desired, diff, apps, trial, &mut applied.warnings)?;
    let executed = execute(dir, &maps, diff, &snapshot, apps, missing)?;
    let mut after = snapshot;
    if keep || !scheduled.drains.is_empty() {
        execute_on_copy(&mut after, &executed.plan.steps());
    }
    let mappings = |drains: &PendingDisconnects| after.mappings_of(drains.vips());
    let due = disconnect::finish(context, scheduled, mappings, true, &mut applied.warnings)?;
    let saved = name_index::save_instead_of(&desired.names, &names, &context.dir);
    if let Err(error) = &saved {
        applied.warnings.push(format!("cannot keep the names for `vipnat list`: {error}"));
    }
    dir.end_change()?;
    dir.is_still_there()?;

    let mut left = None;
    if keep {
        left = Some(Left {
            unsettled: unsettled(&executed, diff, &attached),
            snapshot: after,
            maps,
            names: desired.names.clone(),
            names_saved: saved.is_ok(),
            app_ids: diff.app_ids.clone(),
            generation: dir.generation()?,
            pins: PinnedIds::read(dir.path())?,
        });
    }
    let repaired = recovered || repaired || diff.strays;
    report(&mut applied, prepared.diff, executed, &attached, repaired);
    applied.warnings.extend(others.warning());
    Ok((applied, due, left))
}

/// The apps that keep something that the table does not give them, and those that could not be attached.
fn unsettled(executed: &Executed, diff: &Diff, attached: &[AttachedApp]) -> BTreeSet<String> {
    let Executed { failed, vanished: _, held, plan: _ } = executed;
    let before = attached.iter().map(|app| (&app.name, &app.app_id));
    let held = diff.app_ids.iter().chain(before).filter(|(_, app_id)| held.contains(app_id));
    held.map(|(name, _)| name).chain(failed.keys()).cloned().collect()
}

/// The state while this command has its lock.
struct Locked<'a> {
    context: &'a Context,
    dir: &'a StateDir,
    maps: Maps,
    observed: Observed<'a>,
    /// This command has read entries and slots.
    read_all: bool,
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
        if nothing && !self.read_all {
            (self.observed.snapshot, self.recovered) =
                read_and_recover(self.dir, &self.maps, true)?;
            prepared = prepare(desired, &self.observed)?;
        }
        // It takes two steps to free a retired slot.
        while prepared.room != Room::Enough
            && reclaim(self.dir, &self.maps, &mut self.observed.snapshot)?
        {
            prepared = prepare(desired, &self.observed)?;
        }
        if let Room::AfterGrowth(capacity) = prepared.room {
            let Self { context, dir, observed, .. } = self;
            let lost = migrate(context, dir, desired, capacity, observed.apps.attached)?;
            applied.warnings.extend(lost);
            applied.changes.push(capacity.into());
            links::swap_programs(dir, observed.apps.attached)?;
            self.maps = Maps::open(dir.path())?;
            observed.snapshot = self.maps.snapshot()?;
            observed.apps.last_app = self.maps.layout()?.last_app;
            prepared = prepare_in_place(desired, observed)?;
        }
        Ok(prepared)
    }
}

/// Adds the changes that were made to `applied`: the prepared ones, except those that failed or were held
/// back.
pub(crate) fn report(
    applied: &mut Applied,
    diff: Diff,
    executed: Executed,
    attached: &[AttachedApp],
    repaired: bool,
) {
    let Diff { plan, changes, attach, owners: _, app_ids, strays: _, unseen } = diff;
    let Executed { failed, vanished, held, plan: _ } = executed;
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
