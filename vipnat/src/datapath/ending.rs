//! Ends what is connected to backends that left the table, at once or when its time has come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use vipnat_common::Note;

use super::{
    Applied, Datapath,
    apps::AttachedApp,
    carry_out::wait,
    cgroup,
    departed::{Departed, Rules, departed},
    desired::Desired,
    error::{Error, Result},
    kernel::{self, Need},
    maps::Maps,
    sockets::{Found, Search},
    work::Work,
};
use crate::{
    drains::{Drain, Drains},
    record::Record,
    table::OnBackendRemoved,
};

/// A socket that was inside `connect` when the table changed may show only later.
const PASSES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// When to try again what could not be done, in seconds.
const AGAIN: u64 = 30;

/// Connections to a backend that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Whose, and to which backend.
    pub departed: Departed,
    /// How many.
    pub count: usize,
}

/// What came of [`Datapath::end_drained`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// What was ended.
    pub ended: Vec<Connections>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// How long it takes until the next connections are due; `None` if none are.
    pub next: Option<Duration>,
}

/// What is to be ended after a change.
pub(super) struct Leaving {
    drains: Drains,
    /// Those that get time.
    later: Vec<Drain>,
}

impl Datapath {
    /// Ends connections whose time to drain is over. For processes that stay: `apply` does the same.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn end_drained(&self) -> Result<Drained> {
        self.end_drained_after(|_| {})
    }

    /// The same, and what [`Datapath::apply_on_trial`] spared until now.
    ///
    /// # Errors
    ///
    /// As [`Datapath::end_drained`].
    pub fn end_trial(&self) -> Result<Drained> {
        self.end_drained_after(Drains::confirm)
    }

    fn end_drained_after(&self, first: impl FnOnce(&mut Drains)) -> Result<Drained> {
        kernel::check(Need::Pins)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(Drained::default());
        };
        let mut drains = Drains::load(&self.dir);
        let mut drained = Drained::default();
        if drains.is_empty() {
            return Ok(drained);
        }
        first(&mut drains);
        let all = dir.is_changing()?;
        let present = if all { maps.snapshot()? } else { maps.snapshot_of_slots()? };
        let rules = present.rules_of(drains.vips());
        drained.ended = self.end_due(&mut drains, &rules, &mut drained.warnings);
        drained.next = drains.next(now().as_secs());
        Ok(drained)
    }

    /// Forgets what was to end because of a change that is taken back: apps that it took away come back
    /// with other numbers, by which their backends are not found again.
    pub(super) fn forget_drains_of(&self, back: &Desired) -> io::Result<()> {
        let mut drains = Drains::load(&self.dir);
        drains.cancel(|departed| {
            let app = back.apps.get(&departed.app);
            let rules = app.into_iter().flat_map(|app| &app.rules);
            let mut rules = rules.filter(|rule| rule.vip == departed.vip);
            rules.any(|rule| rule.turns.contains(&departed.backend))
        });
        drains.save(&self.dir)
    }

    /// Notes what a change will end, before it is made: if it is interrupted, the next command ends it.
    pub(super) fn leaving(
        &self,
        desired: &Desired,
        work: &Work,
        attached: &[AttachedApp],
        names: &Record,
        trial: Duration,
        warnings: &mut Vec<String>,
    ) -> Leaving {
        let mut drains = Drains::load(&self.dir);
        let heirs = heirs(attached, desired, work);
        let departed = departed(&work.changes, desired, names, &heirs);
        let mut later = Vec::new();
        if !departed.is_empty() {
            let paths = cgroup::paths_by_id(&self.cgroup_mount).unwrap_or_else(|error| {
                warnings.push(uncertain(error));
                HashMap::new()
            });
            for (departed, policy) in departed {
                let due = match policy {
                    OnBackendRemoved::Keep => continue,
                    // At once, also if a later command does it.
                    OnBackendRemoved::Kill if trial.is_zero() => 0,
                    OnBackendRemoved::Kill => end_of_second() + trial.as_secs() + 1,
                    OnBackendRemoved::Drain(seconds) => {
                        end_of_second() + trial.as_secs() + u64::from(seconds)
                    }
                };
                let before = attached.iter().filter(|app| app.scope == departed.scope);
                let before = before.flat_map(AttachedApp::cgroups).filter_map(|id| paths.get(&id));
                let after = desired.apps.get(&departed.app);
                let after = after.into_iter().flat_map(|app| app.cgroups.values());
                let cgroups: BTreeSet<_> = before.chain(after).collect();
                let cgroups =
                    cgroups.into_iter().map(|path| self.cgroup_mount.join(path)).collect();
                let on_trial = !trial.is_zero() && policy == OnBackendRemoved::Kill;
                let drain = Drain { departed, cgroups, due, on_trial };
                if policy != OnBackendRemoved::Kill {
                    later.push(drain.clone());
                }
                drains.push(drain);
            }
            if let Err(error) = drains.save(&self.dir) {
                warnings.push(format!(
                    "cannot keep which connections are to end later, so they stay: {error}"
                ));
            }
        }
        Leaving { drains, later }
    }

    /// Ends what is to be ended at once, and whatever else is due, after a change was made.
    pub(super) fn left(&self, leaving: Leaving, maps: &Maps, applied: &mut Applied) -> Result<()> {
        let Leaving { mut drains, later } = leaving;
        if drains.is_empty() {
            return Ok(());
        }
        // From there on no program decides by the old list.
        if drains.is_due(now().as_secs()) {
            wait()?;
        }
        // The change is made, so the slots tell all.
        let rules = maps.snapshot_of_slots()?.rules_of(drains.vips());
        applied.ended = self.end_due(&mut drains, &rules, &mut applied.warnings);
        match count(&self.dir, &by_app(later), &rules) {
            Ok(draining) => applied.draining = draining,
            Err(error) => applied.warnings.push(uncertain(error)),
        }
        Ok(())
    }

    /// Ends what is due, and keeps the rest but for what is back in the table.
    fn end_due(
        &self,
        drains: &mut Drains,
        rules: &Rules,
        warnings: &mut Vec<String>,
    ) -> Vec<Connections> {
        drains.cancel(|departed| departed.is_back(rules));
        let mut ended = Vec::new();
        let mut search = None;
        // What keeps one app's from being ended keeps no other's.
        for due in by_app(drains.due(now().as_secs())) {
            match end(&self.dir, &mut search, &due, rules, warnings) {
                Ok(of_app) => ended.extend(of_app),
                Err(error) => {
                    let passes = error.may_pass();
                    warnings.push(uncertain(error));
                    let later = now().as_secs() + AGAIN;
                    for drain in due.into_iter().filter(|_| passes) {
                        drains.push(Drain { due: later, ..drain });
                    }
                }
            }
        }
        if let Err(error) = drains.save(&self.dir) {
            warnings.push(format!("cannot keep which connections are to end later: {error}"));
        }
        ended
    }
}

/// Ends the connections of one app.
fn end(
    state: &Path,
    search: &mut Option<Search>,
    drains: &[Drain],
    rules: &Rules,
    warnings: &mut Vec<String>,
) -> Result<Vec<Connections>> {
    let search = match search {
        Some(search) => search,
        none => none.insert(Search::new(state)?),
    };
    let mut counts = vec![0; drains.len()];
    let mut closed = BTreeSet::new();
    for pass in 0..PASSES {
        let mut more = false;
        let place = |note: &Note| Some((0, place_in(drains, rules, note)?));
        for noted in search.noted(1, place)? {
            let found = Found::of(&noted, &cgroups(drains))?;
            let app = &drains[0].departed.app;
            closed.extend(found.closed().map(|why| {
                format!("app {app:?}: what is connected to backends that left may stay: {why}")
            }));
            for sort in found.end()? {
                counts[sort] += 1;
                more = true;
            }
        }
        if pass > 0 && !more {
            break;
        }
        thread::sleep(PAUSE);
    }
    warnings.extend(closed);
    let ended = drains.iter().zip(counts).filter(|(_, count)| *count > 0);
    Ok(ended
        .map(|(drain, count)| Connections { departed: drain.departed.clone(), count })
        .collect())
}

/// Counts connections that drain, and tells until when.
fn count(
    state: &Path,
    apps: &[Vec<Drain>],
    rules: &Rules,
) -> Result<Vec<(Connections, SystemTime)>> {
    let mut draining = Vec::new();
    if apps.is_empty() {
        return Ok(draining);
    }
    let noted = Search::new(state)?.noted(apps.len(), |note| place(apps, rules, note))?;
    for (drains, noted) in apps.iter().zip(noted) {
        let found = Found::of(&noted, &cgroups(drains))?;
        for (sort, drain) in drains.iter().enumerate() {
            let count = found.sorts().filter(|found| *found == sort).count();
            if count > 0 {
                let until = UNIX_EPOCH + Duration::from_secs(drain.due);
                draining.push((Connections { departed: drain.departed.clone(), count }, until));
            }
        }
    }
    Ok(draining)
}

/// Whose a note is, and which of its backends the socket was given, by their places in the lists.
fn place(apps: &[Vec<Drain>], rules: &Rules, note: &Note) -> Option<(usize, usize)> {
    let apps = apps.iter().enumerate();
    apps.filter_map(|(app, drains)| Some((app, place_in(drains, rules, note)?))).next()
}

/// Which of an app's backends a noted socket was given.
fn place_in(drains: &[Drain], rules: &Rules, note: &Note) -> Option<usize> {
    drains.iter().position(|drain| drain.departed.was_given(note, rules))
}

fn uncertain(error: Error) -> String {
    let error = anyhow::Error::from(error);
    format!("what is connected to backends that left may stay: {error:#}")
}

fn by_app(drains: Vec<Drain>) -> Vec<Vec<Drain>> {
    let mut apps: BTreeMap<(String, u32), Vec<Drain>> = BTreeMap::new();
    for drain in drains {
        apps.entry((drain.departed.app.clone(), drain.departed.scope)).or_default().push(drain);
    }
    apps.into_values().collect()
}

fn cgroups(drains: &[Drain]) -> BTreeSet<PathBuf> {
    drains.iter().flat_map(|drain| &drain.cgroups).cloned().collect()
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

/// So that nothing ends earlier than said.
fn end_of_second() -> u64 {
    (now() + Duration::from_millis(999)).as_secs()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
