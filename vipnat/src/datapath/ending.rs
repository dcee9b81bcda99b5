//! Ends what is connected to backends that left the table, at once or when its time has come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Applied, Datapath, Work,
    apps::AttachedApp,
    cgroup,
    departed::{Departed, Rules, departed},
    error::Result,
    kernel,
    maps::Maps,
    sockets::Search,
    wait,
};
use crate::{
    drains::{Drain, Drains},
    record::Record,
    table::{OnBackendRemoved, Table},
};

/// A socket that was inside `connect` when the table changed may show only later.
const PASSES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

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
        kernel::check()?;
        let Some((_dir, maps)) = self.open()? else {
            return Ok(Drained::default());
        };
        let mut drains = Drains::load(&self.dir);
        let mut drained = Drained::default();
        if drains.is_empty() {
            return Ok(drained);
        }
        let rules = maps.snapshot()?.rules();
        drained.ended = self.end_due(&mut drains, &rules, &mut drained.warnings);
        drained.next = drains.next(now().as_secs());
        Ok(drained)
    }

    /// Notes what a change will end, before it is made: if it is interrupted, the next command ends it.
    pub(super) fn leaving(
        &self,
        table: &Table,
        work: &Work,
        attached: &[AttachedApp],
        warnings: &mut Vec<String>,
    ) -> Leaving {
        let mut drains = Drains::load(&self.dir);
        let heirs = heirs(attached, table, work);
        let departed = departed(&work.changes, table, &Record::load(&self.dir), &heirs);
        let mut later = Vec::new();
        if !departed.is_empty() {
            let paths = cgroup::paths_by_id(&self.cgroup_mount);
            for (departed, policy) in departed {
                let seconds = match policy {
                    OnBackendRemoved::Keep => continue,
                    OnBackendRemoved::Kill => 0,
                    OnBackendRemoved::Drain(seconds) => seconds.into(),
                };
                let before = attached.iter().filter(|app| app.scope == departed.scope);
                let before = before.flat_map(AttachedApp::cgroups).filter_map(|id| paths.get(&id));
                let after = table.apps.get(&departed.app).map(|app| &app.cgroup);
                let cgroups: BTreeSet<_> = before.chain(after).collect();
                let cgroups =
                    cgroups.into_iter().map(|path| self.cgroup_mount.join(path)).collect();
                // Never earlier than said.
                let due = (now() + Duration::from_millis(999)).as_secs() + seconds;
                let due = if seconds == 0 { 0 } else { due };
                let drain = Drain { departed, cgroups, due };
                if due > 0 {
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
        // From here on no program decides by the old list.
        wait()?;
        let rules = maps.snapshot()?.rules();
        applied.ended = self.end_due(&mut drains, &rules, &mut applied.warnings);
        for drains in by_app(later) {
            let which = |flow: &_| drains.iter().position(|d| d.departed.was_given(flow, &rules));
            let counts = Search::of(&self.dir, &cgroups(&drains))
                .and_then(|search| search.count(drains.len(), which))?;
            let counted = drains.into_iter().zip(counts).filter(|(_, count)| *count > 0);
            applied.draining.extend(counted.map(|(drain, count)| {
                let until = UNIX_EPOCH + Duration::from_secs(drain.due);
                (Connections { departed: drain.departed, count }, until)
            }));
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
        let due = by_app(drains.due(now().as_secs()));
        let ended = end(&self.dir, due, rules, warnings);
        if let Err(error) = drains.save(&self.dir) {
            warnings.push(format!("cannot keep which connections are to end later: {error}"));
        }
        ended
    }
}

/// Ends connections, of each app for itself.
fn end(
    state: &Path,
    apps: Vec<Vec<Drain>>,
    rules: &Rules,
    warnings: &mut Vec<String>,
) -> Vec<Connections> {
    let mut counts: Vec<_> = apps.iter().map(|drains| vec![0; drains.len()]).collect();
    let mut told = BTreeSet::new();
    for pass in 0..PASSES {
        let mut more = false;
        for (drains, counts) in apps.iter().zip(&mut counts) {
            let app = &drains[0].departed.app;
            let which = |flow: &_| drains.iter().position(|d| d.departed.was_given(flow, rules));
            let mut tell = |why: String| {
                if told.insert(app) {
                    warnings.push(format!(
                        "app {app:?}: connections to backends that left the table may stay: {why}"
                    ));
                }
            };
            let ended = Search::of(state, &cgroups(drains)).and_then(|search| {
                search.closed().for_each(&mut tell);
                search.end(drains.len(), which)
            });
            match ended {
                Ok(ended) => {
                    more |= ended.iter().any(|count| *count > 0);
                    counts.iter_mut().zip(ended).for_each(|(count, ended)| *count += ended);
                }
                Err(error) => tell(format!("{:#}", anyhow::Error::from(error))),
            }
        }
        if apps.is_empty() || (pass > 0 && !more) {
            break;
        }
        thread::sleep(PAUSE);
    }
    let all = apps.into_iter().flatten().zip(counts.into_iter().flatten());
    let ended = all.filter(|(_, count)| *count > 0);
    ended.map(|(drain, count)| Connections { departed: drain.departed, count }).collect()
}

fn by_app(drains: Vec<Drain>) -> Vec<Vec<Drain>> {
    let mut apps: BTreeMap<(String, u32), Vec<Drain>> = BTreeMap::new();
    for drain in drains {
        apps.entry((drain.departed.app.clone(), drain.departed.scope)).or_default().push(drain);
    }
    apps.into_values().collect()
}

fn cgroups(drains: &[Drain]) -> Vec<PathBuf> {
    let all: BTreeSet<_> = drains.iter().flat_map(|drain| &drain.cgroups).cloned().collect();
    all.into_iter().collect()
}

/// The apps that get the cgroup of one that goes.
fn heirs<'a>(
    attached: &'a [AttachedApp],
    table: &Table,
    work: &'a Work,
) -> HashMap<&'a str, &'a str> {
    let gone = attached.iter().filter(|app| !table.apps.contains_key(&app.name));
    gone.filter_map(|app| {
        let heir = app.cgroups().find_map(|cgroup| work.owners.get(&cgroup))?;
        Some((app.name.as_str(), heir.as_str()))
    })
    .collect()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
