//! Ends what is connected to backends that left the table, at once or when its time has come.
//!
//! What is to be ended is noted under the lock of the state directory, beside the change that is the reason.
//! Ending it takes several looks at all sockets with pauses in between, and keeps no other command waiting:
//! the lock is taken for a moment in each, to see whether it is still to be ended, and at last to take out of
//! the notes what was done. All apps are ended in the same looks.

use crate::kernel::grace_period::wait;
use crate::state::run_dir;
use std::{
    collections::{BTreeSet, HashMap},
    io, thread,
    time::{Duration, SystemTime},
};

use rustc_hash::FxHashMap;

use crate::reconcile::disconnect::passes::{Current, Due, Ending};
use crate::state::pending_disconnects::{Clock, Id, PendingDisconnect, PendingDisconnects};
use crate::{
    kernel::{
        error::{Attempt as _, Result},
        maps::Maps,
        preflight::{self, Privilege},
        sockets::Search,
    },
    reconcile::{Applied, Session, prepare::Work},
    state::{links::AttachedApp, state_dir::StateDir},
};
use vipnat_core::model::{
    Desired, Mappings, RemovedBackend, removed_backends, vips_without_policy,
};
use vipnat_core::{model::NameIndex, table::OnBackendRemoved};

/// A socket that was inside `connect` when the table changed may show only later.
const PASSES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// When to try again what could not be done, in seconds.
const AGAIN: u64 = 30;

/// Connections to a backend that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Whose, and to which backend.
    pub departed: RemovedBackend,
    /// How many.
    pub count: usize,
}

/// What came of [`Session::end_drained`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// What was ended.
    pub ended: Vec<Connections>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// How long it takes until the next connections are due; `None` if none are.
    pub next: Option<Duration>,
}

/// What a change will end.
pub(crate) struct Leaving {
    drains: PendingDisconnects,
    /// Those that get time.
    later: Vec<PendingDisconnect>,
    /// Whether the next command finds them, too.
    kept: bool,
}

/// What is to be ended after a change, and what is only to be counted.
pub(crate) struct Left {
    due: Vec<PendingDisconnect>,
    later: Vec<PendingDisconnect>,
    kept: bool,
}

impl Session {
    /// Ends connections whose time to drain is over. For processes that stay: `apply` does the same.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn end_drained(&self) -> Result<Drained> {
        self.end_drained_after(|_| {})
    }

    /// The same, and what [`Session::apply_on_trial`] spared until now.
    ///
    /// # Errors
    ///
    /// As [`Session::end_drained`].
    pub fn end_trial(&self) -> Result<Drained> {
        self.end_drained_after(PendingDisconnects::confirm)
    }

    fn end_drained_after(&self, first: impl FnOnce(&mut PendingDisconnects)) -> Result<Drained> {
        preflight::check(Privilege::UsePins)?;
        let clock = clock()?;
        let mut drained = Drained::default();
        let (due, kept) = {
            let Some((dir, maps)) = self.open()? else {
                return Ok(drained);
            };
            let mut drains = self.noted(&clock, &mut drained.warnings)?;
            if drains.is_empty() {
                return Ok(drained);
            }
            first(&mut drains);
            drains.cancel_back(&rules_now(&dir, &maps, &drains)?);
            drained.next = drains.next(clock.seconds());
            let kept = self.keep(&drains, &mut drained.warnings);
            (drains.due(clock.seconds()), kept)
        };
        if due.is_empty() {
            return Ok(drained);
        }
        let (ended, next) = self.end(due, kept, &mut drained.warnings);
        (drained.ended, drained.next) = (ended, next);
        Ok(drained)
    }

    /// Forgets what was to end because of a change that is taken back: apps that it took away come back
    /// with other numbers, by which their backends are not found again.
    pub(crate) fn forget_drains_of(&self, back: &Desired) -> Result<()> {
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(());
        };
        let forgotten = self.forget_drains(&dir, |departed| {
            let app = back.apps.get(&departed.app);
            let mappings = app.into_iter().flat_map(|app| &app.mappings);
            let mut mappings = mappings.filter(|rule| rule.vip == departed.vip);
            mappings.any(|rule| rule.turns.contains(&departed.backend))
        });
        forgotten.attempt(|| "clear the list of pending disconnects".to_owned())
    }

    /// Forgets some of what was to end, under the lock, or what another command notes meanwhile would be
    /// lost. A file that can't be read stays as it is.
    pub(crate) fn forget_drains(
        &self,
        _locked: &StateDir,
        which: impl Fn(&RemovedBackend) -> bool,
    ) -> io::Result<()> {
        let clock = Clock::now()?;
        let (mut drains, _) = PendingDisconnects::load(&self.dir, &clock)?;
        drains.cancel(which);
        drains.save(&self.dir)
    }

    /// Notes what a change will end, before it is made: if it is interrupted, the next command ends it.
    pub(crate) fn leaving(
        &self,
        desired: &Desired,
        work: &Work,
        attached: &[AttachedApp],
        names: &NameIndex,
        trial: Duration,
        warnings: &mut Vec<String>,
    ) -> Result<Leaving> {
        let clock = clock()?;
        let mut drains = self.noted(&clock, warnings)?;
        let heirs = heirs(attached, desired, work);
        let mut later = Vec::new();
        let unknown = vips_without_policy(&work.changes, desired, names, &heirs);
        if unknown > 0 && names.problem().is_none() {
            warnings.push(format!(
                "the on-backend-removed policy of {unknown} VIPs that lose backends is lost, so their \
                 connections stay; was a file in {} removed?",
                run_dir::DIRECTORY
            ));
        }
        let mount = self.tree().map(|tree| tree.mount().to_owned()).unwrap_or_default();
        for (departed, policy) in removed_backends(&work.changes, desired, names, &heirs) {
            let due = match policy {
                OnBackendRemoved::Keep => continue,
                // At once, also if a later command does it.
                OnBackendRemoved::Kill if trial.is_zero() => 0,
                OnBackendRemoved::Kill => clock.end_of_second() + trial.as_secs() + 1,
                OnBackendRemoved::Drain(seconds) => {
                    clock.end_of_second() + trial.as_secs() + u64::from(seconds)
                }
            };
            let app = desired.apps.get(&departed.app);
            let cgroups: BTreeSet<_> =
                app.into_iter().flat_map(|app| app.cgroups.values()).collect();
            let cgroups = cgroups.into_iter().map(|path| mount.join(path)).collect();
            let on_trial = !trial.is_zero() && policy == OnBackendRemoved::Kill;
            let drain = PendingDisconnect {
                id: Id::default(),
                departed,
                cgroups,
                due,
                on_trial,
                again: false,
            };
            if policy != OnBackendRemoved::Kill {
                later.push(drain.clone());
            }
            drains.push(drain);
        }
        let kept = self.keep(&drains, warnings);
        Ok(Leaving { drains, later, kept })
    }

    /// After a change was made, under the lock under which it was: what is to be ended at once, and whatever
    /// else is due. From now on the slots say what is in the table.
    pub(crate) fn left(
        &self,
        leaving: Leaving,
        maps: &Maps,
        warnings: &mut Vec<String>,
    ) -> Result<Left> {
        let Leaving { mut drains, mut later, mut kept } = leaving;
        let clock = clock()?;
        if !drains.is_empty() {
            let mappings = maps.snapshot_of_slots()?.mappings_of(drains.vips());
            drains.cancel_back(&mappings);
            later.retain(|drain| !drain.departed.is_back(&mappings));
            kept = self.keep(&drains, warnings) && kept;
        }
        Ok(Left { due: drains.due_or_failed(clock.seconds()), later, kept })
    }

    /// Ends that. No other command has to wait for it.
    pub(crate) fn end_left(&self, left: Left, applied: &mut Applied) {
        let Left { due, later, kept } = left;
        if !due.is_empty() {
            (applied.ended, _) = self.end(due, kept, &mut applied.warnings);
        }
        if !later.is_empty() {
            match self.count(later) {
                Ok(draining) => applied.draining = draining,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    let warning = format!("cannot count the connections that drain: {error:#}");
                    applied.warnings.push(warning);
                }
            }
        }
    }

    /// What is noted, to be changed.
    fn noted(&self, clock: &Clock, warnings: &mut Vec<String>) -> Result<PendingDisconnects> {
        let taken = PendingDisconnects::take(&self.dir, clock, warnings);
        taken.attempt(|| "read the list of pending disconnects".to_owned())
    }

    /// Writes down what is to be ended. Returns whether that could be.
    fn keep(&self, drains: &PendingDisconnects, warnings: &mut Vec<String>) -> bool {
        let saved = drains.save(&self.dir);
        warnings.extend(saved.as_ref().err().map(|error| {
            format!(
                "cannot write the list of pending disconnects, so these connections stay: {error}"
            )
        }));
        saved.is_ok()
    }

    /// Ends what is due, and takes what was done out of the notes. Second, how long it takes until the next is
    /// due.
    fn end(
        &self,
        due: Vec<PendingDisconnect>,
        kept: bool,
        warnings: &mut Vec<String>,
    ) -> (Vec<Connections>, Option<Duration>) {
        let due = Due::new(due);
        let mut ending = Ending::of(due.drains.len());
        let ended = wait().and_then(|()| self.end_in_passes(&due, kept, &mut ending));
        if let Err(error) = ended {
            ending.failed(0..due.drains.len(), error);
        }
        let again = ending.again();
        let failures = ending.warnings(&due, kept);
        let Ending { counts, stay, .. } = ending;
        warnings.extend(stay.into_iter().map(|((place, why), count)| {
            let RemovedBackend { app, relationship, vip, backend, app_id: _ } =
                &due.drains[place].departed;
            let name = relationship.as_deref().unwrap_or("?");
            let connections = if count == 1 { "connection" } else { "connections" };
            format!(
                "app {app:?}: {count} {connections} to {} of {name} {vip} stay: {why}",
                backend.ip
            )
        }));
        warnings.extend(failures);
        let next = match self.take_out(if kept { &due.drains } else { &[] }, &again, warnings) {
            Ok(next) => next,
            Err(error) => {
                let error = anyhow::Error::from(error);
                warnings.push(format!("{error:#}; the next `vipnat apply` looks for them again"));
                None
            }
        };
        let ended = due.drains.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        let ended = ended
            .map(|(PendingDisconnect { departed, .. }, count)| Connections { departed, count });
        (ended.collect(), next)
    }

    fn end_in_passes(&self, due: &Due, kept: bool, ending: &mut Ending) -> Result<()> {
        let mut search = Search::new(&self.dir)?;
        let mut pass = 0;
        loop {
            let connections = search.connections()?;
            // After the notes were read: what is in the table now, as another command may have made it
            // meanwhile, none of these was led by for the first time.
            let Some(current) = self.still_due(due, kept)? else {
                return Ok(());
            };
            let mut found: Vec<_> = connections
                .iter()
                .filter_map(|it| Some((current.place(due, it.record())?, it)))
                .collect();
            let cgroups = || due.cgroups(found.iter().map(|(place, _)| *place));
            if search.reach(found.iter().map(|(_, it)| *it), cgroups) {
                // That took its time, and sockets may have moved on.
                continue;
            }
            // A UDP socket can connect elsewhere at any time, even to the same backend without the VIP, so
            // those are ended first, and only if they have not done so since the look at the table.
            if found.iter().any(|(_, connection)| connection.is_udp()) {
                let now = search.connections()?.into_iter().map(|it| (it.cookie(), it));
                let now: FxHashMap<_, _> = now.collect();
                found.retain(|(_, it)| !it.is_udp() || now.get(&it.cookie()) == Some(it));
                found.sort_by_key(|(_, connection)| !connection.is_udp());
            }
            if ending.pass(&search, &found) == 0 && pass > 0 {
                return Ok(());
            }
            pass += 1;
            if pass == PASSES {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Which of it is still to be ended, as the notes and the table say at this moment; `None` if nothing is
    /// applied any more.
    fn still_due(&self, due: &Due, kept: bool) -> Result<Option<Current>> {
        let Some((dir, maps)) = self.open()? else {
            return Ok(None);
        };
        let noted = if kept {
            let noted = PendingDisconnects::load(&self.dir, &clock()?);
            noted.attempt(|| "read the list of pending disconnects".to_owned())?.0
        } else {
            PendingDisconnects::of(&due.drains)
        };
        let mappings = rules_now(&dir, &maps, &noted)?;
        let noted = noted.ids();
        let is_due = |drain: &PendingDisconnect| {
            noted.contains(&drain.id) && !drain.departed.is_back(&mappings)
        };
        let is_due = due.drains.iter().map(is_due).collect();
        Ok(Some(Current { is_due, mappings }))
    }

    /// Takes what was done out of the notes, which another command may have changed meanwhile. What is to be
    /// tried again, by its place, stays there for some time. Returns how long it takes until the next is due.
    fn take_out(
        &self,
        done: &[PendingDisconnect],
        again: &BTreeSet<usize>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Duration>> {
        let Some(_dir) = StateDir::open(&self.dir)? else {
            return Ok(None);
        };
        let clock = clock()?;
        let mut drains = self.noted(&clock, warnings)?;
        let of = |failed| {
            let all = done.iter().enumerate();
            all.filter(move |(place, _)| again.contains(place) == failed).map(|(_, drain)| drain.id)
        };
        drains.take_out(&of(false).collect());
        drains.try_again(&of(true).collect(), clock.seconds() + AGAIN);
        let saved = drains.save(&self.dir);
        saved.attempt(|| "update the list of pending disconnects".to_owned())?;
        Ok(drains.next(clock.seconds()))
    }

    /// Counts connections that drain, and tells until when.
    fn count(&self, later: Vec<PendingDisconnect>) -> Result<Vec<(Connections, SystemTime)>> {
        let (later, clock) = (Due::new(later), clock()?);
        let connections = Search::new(&self.dir)?.connections()?;
        let Some(current) = self.still_due(&later, false)? else {
            return Ok(Vec::new());
        };
        let mut counts = vec![0; later.drains.len()];
        for place in connections.iter().filter_map(|it| current.place(&later, it.record())) {
            counts[place] += 1;
        }
        let drains = later.drains.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        Ok(drains
            .map(|(PendingDisconnect { departed, due, .. }, count)| {
                (Connections { departed, count }, clock.shown(due))
            })
            .collect())
    }
}

/// The mappings of the VIPs whose backends left.
fn rules_now(dir: &StateDir, maps: &Maps, drains: &PendingDisconnects) -> Result<Mappings> {
    let now = if dir.is_changing()? { maps.snapshot()? } else { maps.snapshot_of_slots()? };
    Ok(now.mappings_of(drains.vips()))
}

/// The apps that get the cgroup of one that goes.
fn heirs<'a>(
    attached: &'a [AttachedApp],
    desired: &Desired,
    work: &'a Work,
) -> HashMap<&'a str, &'a str> {
    let gone = attached.iter().filter(|app| !desired.apps.contains_key(&app.name));
    gone.filter_map(|app| {
        let heir = app.cgroups().find_map(|cgroup| work.owners.get(&cgroup))?;
        Some((app.name.as_str(), heir.as_str()))
    })
    .collect()
}

fn clock() -> Result<Clock> {
    Clock::now().attempt(|| "read the clock".to_owned())
}
