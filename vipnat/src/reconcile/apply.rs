//! Applying: takes over what another build left, computes the difference, and makes it.

use crate::kernel::compat;
use crate::reconcile::observe::of_kernel;
use crate::reconcile::resolve::of_table;
use crate::state::name_index;
use crate::state::staging;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    kernel::{
        cgroup::Paths,
        error::{Error, Result},
        maps::Maps,
        others::Others,
        pins::NEW,
        preflight::{self, Privilege},
    },
    reconcile::{
        Applied, Flushed, MissingCgroup, Session,
        disconnect::Left,
        execute::{Done, carry_out},
        observe::Observed,
        prepare::{Attach, Present, Work},
        recover::{reclaim, settle},
        repair_pins, swap_programs,
    },
    state::{
        links::{self, AttachedApp},
        staging::Condition,
        state_dir::StateDir,
    },
};
use vipnat_core::{model::NameIndex, table::Table};
use vipnat_core::{
    model::{Capacity, Change, Desired, Place, Snapshot},
    plan::{Plan, Reclaim},
};

/// Looks at the cgroups of a table once more; nothing for what has none.
type Again<'a> = &'a mut dyn FnMut() -> Result<Option<Desired>>;

impl Session {
    /// Makes the kernel match the table. Translation goes on when the process ends.
    ///
    /// VIPs that do not change keep their place in the round robin, and so do those that get other
    /// backends. If it fails half-way, every VIP does what the old table or the new one says, and
    /// the next call does the rest. State that another build of vipnat left is taken over, without
    /// a moment in which nothing translates.
    ///
    /// # Errors
    ///
    /// Before anything is changed: an unsupported kernel, missing privileges, a cgroup that does
    /// not exist (see [`MissingCgroup`]), a table that is too large. Later: system calls. Apps
    /// that could not be attached are no error but in [`Applied::failed`].
    pub fn apply(&self, table: &Table, absent: MissingCgroup) -> Result<Applied> {
        preflight::check(compat::need(&self.dir))?;
        let (desired, mut contested) = self.desired(table, absent)?;
        let mut again = || {
            let (desired, now) = self.desired(table, absent)?;
            contested = now;
            Ok(Some(desired))
        };
        let mut applied = self.make(&desired, absent, Duration::ZERO, &mut again)?;
        applied.failed.extend(contested);
        Ok(applied)
    }

    /// The same, but nothing that is connected is ended before some time has passed: until then,
    /// [`Session::restore`] leaves no trace. [`Session::end_trial`] ends it at once.
    ///
    /// # Errors
    ///
    /// As [`Session::apply`].
    pub fn apply_on_trial(&self, table: &Table, time: Duration) -> Result<Applied> {
        preflight::check(compat::need(&self.dir))?;
        let (desired, _) = self.desired(table, MissingCgroup::Error)?;
        let mut again = || Ok(Some(self.desired(table, MissingCgroup::Error)?.0));
        self.make(&desired, MissingCgroup::Error, time, &mut again)
    }

    /// What a table says, and what is not as it says, which is an error where a missing cgroup is.
    fn desired(&self, table: &Table, absent: MissingCgroup) -> Result<(Desired, Vec<Error>)> {
        let (desired, mut troubles) = of_table(table, &self.tree()?, absent)?;
        if absent == MissingCgroup::Error && !troubles.is_empty() {
            return Err(troubles.remove(0));
        }
        Ok((desired, troubles))
    }

    /// What the kernel does now, for [`Session::restore`].
    ///
    /// # Errors
    ///
    /// As [`Session::list`].
    pub fn present(&self) -> Result<Desired> {
        preflight::check(Privilege::UsePins)?;
        let copy = |maps: &Maps| Ok((maps.copy()?, name_index::load(&self.dir)));
        let Some(Observed { copied: (copied, names), apps, maps: _ }) = self.observe(copy)? else {
            return Ok(Desired::default());
        };
        let paths = Paths::of(&self.tree()?);
        of_kernel(&copied.snapshot()?, &apps, &paths, names)
    }

    /// Makes the kernel do again what it did, if it still does what it was made to do meanwhile; without
    /// that, whatever it does now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if somebody else changed it since; as [`Session::apply`].
    pub fn restore(&self, before: &Desired, meanwhile: Option<&Desired>) -> Result<Applied> {
        if let Some(meanwhile) = meanwhile
            && !self.present()?.same_table(meanwhile)
        {
            return Err(Error::Refused(
                "another process changed the state meanwhile, so it stays as it is now; \
                 `vipnat list` shows it"
                    .to_owned(),
            ));
        }
        if before.apps.is_empty() {
            let Flushed { found: _, warnings } = self.flush()?;
            return Ok(Applied { warnings, ..Applied::default() });
        }
        // The way back does not depend on it.
        let forgotten = self.forget_drains_of(before);
        let mut applied =
            self.make(before, MissingCgroup::Wait, Duration::ZERO, &mut || Ok(None))?;
        if let Err(error) = forgotten {
            applied.warnings.push(format!("{:#}", anyhow::Error::from(error)));
        }
        Ok(applied)
    }

    /// Makes the kernel do what is desired, and ends what is to be ended then.
    fn make(
        &self,
        desired: &Desired,
        absent: MissingCgroup,
        trial: Duration,
        again: Again<'_>,
    ) -> Result<Applied> {
        let (mut applied, left) = self.change(desired, absent, trial, again)?;
        self.end_left(left, &mut applied);
        Ok(applied)
    }

    /// Makes the kernel do what is desired. The state is locked until this returns.
    fn change(
        &self,
        desired: &Desired,
        absent: MissingCgroup,
        trial: Duration,
        again: Again<'_>,
    ) -> Result<(Applied, Left)> {
        desired.capacity().check()?;
        let dir = StateDir::create(&self.dir)?;
        let mut applied = Applied::default();
        let mended = repair_pins::pins(&dir)?;
        self.take_over(&dir, desired, &mut applied)?;
        let mut maps = Maps::open(dir.path())?;
        let interrupted = dir.is_changing()?;
        let (mut now, mut tidied) = settle(&maps, interrupted)?;
        let (attached, names) = (links::read(&dir)?, name_index::load(&self.dir));
        let tree = self.tree()?;
        let others = self.others(dir.path(), &tree);
        applied.warnings.extend(names.problem().map(|problem| {
            format!(
                "{problem}. So the on-backend-removed policy of removed relationships is lost, and their \
                 connections stay; vipnat writes the file anew"
            )
        }));
        if links::swap_programs(&dir, &attached)? > 0 && applied.changes.is_empty() {
            applied.changes.push(Change::Upgrade { layout: None });
        }
        let compare = |desired: &Desired, maps: &Maps, now: &Snapshot| {
            Work::new(desired, &self.describe(Some(maps), now, &attached, &names, &others)?)
        };
        let mut work = compare(desired, &maps, &now);
        // That there is nothing to change is only said after a look at everything.
        if !interrupted && work.as_ref().is_ok_and(|work| work.plan == Plan::default()) {
            (now, tidied) = settle(&maps, true)?;
            work = compare(desired, &maps, &now);
        }
        // What is retired takes two steps to be free.
        while matches!(work, Err(Error::Full(_))) && reclaim(&maps, &mut now)? {
            work = compare(desired, &maps, &now);
        }
        if matches!(work, Err(Error::Full(_))) {
            let capacity = larger(&now, desired, |now| compare(desired, &maps, now))?;
            self.migrate(&dir, desired, capacity, &attached, &mut applied.warnings)?;
            applied.changes.push(capacity.into());
            links::swap_programs(&dir, &attached)?;
            maps = Maps::open(dir.path())?;
            now = maps.snapshot()?;
            work = compare(desired, &maps, &now);
        }
        let mut work = work?;
        // The lock may have taken long. What others attached since the table's cgroups were looked for may be
        // the table's as well; from now on nobody attaches anything.
        let later = if work.releases() { again()? } else { None };
        let desired = later.as_ref().unwrap_or(desired);
        if later.is_some() {
            work = compare(desired, &maps, &now)?;
        }

        let leaving =
            self.leaving(desired, &work, &attached, &names, trial, &mut applied.warnings)?;
        let Done { failed, vanished, held } =
            carry_out(&dir, &maps, &work, &now, &attached, &others, absent)?;
        let left = self.left(leaving, &maps, &mut applied.warnings)?;
        if let Err(error) = name_index::save_instead_of(&desired.names, &names, &self.dir) {
            applied.warnings.push(format!("cannot keep the names for `vipnat list`: {error}"));
        }
        dir.end_change()?;
        dir.is_still_there()?;
        let app_ids: BTreeMap<_, _> = attached.iter().map(|app| (&app.name, app.app_id)).collect();
        let stays = |app: &String| {
            let app_id = work.app_ids.get(app).or_else(|| app_ids.get(app));
            app_id.is_some_and(|app_id| held.contains(app_id))
        };
        applied.changes.extend(work.changes.into_iter().filter(|change| match change {
            Change::Attach { id, .. } if vanished.contains(id) => false,
            Change::Attach { app, .. } => !failed.contains_key(app),
            Change::Detach { app } | Change::Leave { app, .. } => !stays(app),
            Change::Vip { new, old, .. } => {
                let app_id = old.as_ref().map(|rule| rule.app_id);
                new.is_some() || !app_id.is_some_and(|app_id| held.contains(&app_id))
            }
            Change::Upgrade { .. } | Change::Grow { .. } => true,
            Change::Expect { .. } | Change::Repair => true,
        }));
        let strays = work.strays;
        let gone = work.attach.into_iter().filter(|attach| vanished.contains(&attach.cgroup));
        let leave = gone.map(|attach| Change::Leave { app: attach.app, cgroup: Place::Gone });
        applied.changes.extend(leave);
        let done = failed.is_empty();
        tidied |= mended || strays;
        applied.failed.extend(failed.into_values());
        applied.warnings.extend(work.unseen);
        applied.warnings.extend(others.warning());
        if applied.changes.is_empty() && (tidied || done && work.plan != Plan::default()) {
            applied.changes.push(Change::Repair);
        }
        Ok((applied, left))
    }

    /// Makes the pinned maps and programs those of this build.
    fn take_over(&self, dir: &StateDir, desired: &Desired, applied: &mut Applied) -> Result<()> {
        let layout = match staging::condition(dir)? {
            Condition::Absent => {
                return staging::install(dir, desired.capacity().with_room());
            }
            // What an interrupted command left.
            Condition::Current => return dir.remove(NEW),
            Condition::OtherBuild => {
                swap_programs::replace_programs(dir)?;
                None
            }
            Condition::OtherLayout(what) => {
                let attached = links::read(dir)?;
                let capacity = desired.capacity().with_room();
                self.migrate(dir, desired, capacity, &attached, &mut applied.warnings)?;
                Some(what)
            }
        };
        applied.changes.push(Change::Upgrade { layout });
        Ok(())
    }

    pub(crate) fn describe<'a>(
        &'a self,
        maps: Option<&'a Maps>,
        now: &'a Snapshot,
        attached: &'a [AttachedApp],
        names: &'a NameIndex,
        others: &'a Others<'a>,
    ) -> Result<Present<'a>> {
        let last_app = maps.map_or(Ok(0), |maps| maps.layout().map(|layout| layout.last_app))?;
        Ok(Present { maps, now, attached, last_app, names, others })
    }

    /// What [`Session::apply`] would change, and which apps it could not attach. Touches nothing.
    ///
    /// # Errors
    ///
    /// What `apply` would refuse before it changes anything, but for missing privileges.
    pub fn dry_run(&self, table: &Table, absent: MissingCgroup) -> Result<Applied> {
        preflight::check(Privilege::UsePins)?;
        let (desired, _) = self.desired(table, absent)?;
        desired.capacity().check()?;
        let names = name_index::load(&self.dir);
        let nothing = Snapshot::fresh(desired.capacity().with_room());
        let tree = self.tree()?;
        let others = self.others(&self.dir, &tree);
        let mut dry = Applied::default();
        let anew = |attached: &[AttachedApp], dry: &mut Applied| {
            let present = self.describe(None, &nothing, attached, &names, &others)?;
            would_attach(dry, Work::new(&desired, &present)?, attached, &others)
        };
        let Some(dir) = StateDir::open(&self.dir)? else {
            anew(&[], &mut dry)?;
            return Ok(dry);
        };
        match staging::condition(&dir)? {
            Condition::Absent => {
                anew(&[], &mut dry)?;
                return Ok(dry);
            }
            Condition::Current => {}
            Condition::OtherBuild => dry.changes.push(Change::Upgrade { layout: None }),
            Condition::OtherLayout(what) => {
                dry.changes.push(Change::Upgrade { layout: Some(what) });
                anew(&links::read(&dir)?, &mut dry)?;
                return Ok(dry);
            }
        }
        // To compare takes long, and nothing is changed, so nobody has to wait for it.
        drop(dir);
        let copy = |maps: &Maps| Ok((maps.copy()?, name_index::load(&self.dir)));
        let Some(Observed { copied: (copied, names), maps, apps }) = self.observe(copy)? else {
            // It was flushed meanwhile.
            dry.changes.clear();
            anew(&[], &mut dry)?;
            return Ok(dry);
        };
        let mut now = copied.snapshot()?;
        let abandoned = Plan::tidy(&now) != Plan::default();
        let Reclaim { cursors: _, emptied, freed } = Reclaim::new(&now);
        for index in emptied.into_iter().chain(freed) {
            now.slots[index as usize] = None;
        }
        let attached: Vec<_> = apps.into_iter().map(|seen| seen.app).collect();
        let compare = |now: &Snapshot| {
            Work::new(&desired, &self.describe(Some(&maps), now, &attached, &names, &others)?)
        };
        let work = match compare(&now) {
            Err(Error::Full(_)) => {
                let capacity = larger(&now, &desired, compare)?;
                dry.changes.push(capacity.into());
                now.grow(capacity);
                compare(&now)?
            }
            other => other?,
        };
        let repair = abandoned || work.strays || work.plan != Plan::default();
        would_attach(&mut dry, work, &attached, &others)?;
        if dry.changes.is_empty() && dry.failed.is_empty() && repair {
            dry.changes.push(Change::Repair);
        }
        Ok(dry)
    }
}

/// Adds what is to be done to a dry run; what can't be attached, as failures.
fn would_attach(
    dry: &mut Applied,
    work: Work,
    attached: &[AttachedApp],
    others: &Others<'_>,
) -> Result<()> {
    let mut refused = BTreeSet::new();
    for Attach { app, cgroup, path, .. } in &work.attach {
        let held = attached.iter().find_map(|app| app.held(*cgroup));
        if let Some(error) = others.refusal(app, path, held)? {
            refused.insert(*cgroup);
            dry.failed.push(error);
        }
    }
    let stays =
        |change: &Change| matches!(change, Change::Attach { id, .. } if refused.contains(id));
    dry.changes.extend(work.changes.into_iter().filter(|change| !stays(change)));
    dry.warnings.extend(work.unseen);
    Ok(())
}

/// How large maps have to be so that the change fits that does not fit into those there are.
fn larger(
    now: &Snapshot,
    desired: &Desired,
    compare: impl Fn(&Snapshot) -> Result<Work>,
) -> Result<Capacity> {
    let mut enough = now.clone();
    enough.grow(now.capacity.and(desired.capacity()));
    let Work { plan, .. } = compare(&enough)?;
    let needed = plan.capacity_needed(now);
    needed.check()?;
    // There may be room, but not in one piece.
    Ok(needed.with_room().at_least(now.capacity))
}
