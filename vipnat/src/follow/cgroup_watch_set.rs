//! Cgroups that a table matches, and the directories to watch for new or removed ones.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Error, Result};
use vipnat_core::table::{CgroupIndex, Owner, Position, Table};

use super::{cgroup_watch::CgroupWatch, file::WATCH_LIMIT};
use crate::reconcile::{CgroupHolders, NewCgroup, Session};

/// The largest number of cgroups to look at in one go. In between, other commands can attach cgroups.
const AT_ONCE: usize = 256;

/// The cgroups that apps have, and those that the table may give them.
pub(crate) struct CgroupWatchSet {
    index: Arc<CgroupIndex>,
    watch: CgroupWatch,
    /// The app of each cgroup.
    pub(crate) holders: CgroupHolders,
    /// The ids of these cgroups, by their path below the mount.
    held: HashMap<PathBuf, u64>,
    /// The names of those that were attached by hand, by directory.
    by_hand: HashMap<PathBuf, HashSet<OsString>>,
    /// Paths of cgroups that came or went, and are not looked at yet.
    changed: BTreeSet<PathBuf>,
}

/// The cgroups that came and went.
#[derive(Debug, Default)]
pub(crate) struct CgroupChanges {
    /// New cgroups that the table gives to an app.
    pub(crate) came: Vec<NewCgroup>,
    /// The ids of removed cgroups that an app had.
    pub(crate) went: Vec<u64>,
    /// New cgroups that no app gets, since patterns of these apps match them.
    pub(crate) contested: Vec<(PathBuf, Vec<String>)>,
    /// Events were lost, so there may be more changes.
    pub(crate) lost: bool,
}

impl CgroupWatchSet {
    /// Watches nothing yet.
    pub(crate) fn new(watch: CgroupWatch) -> Self {
        Self {
            index: Arc::default(),
            watch,
            holders: CgroupHolders::default(),
            held: HashMap::new(),
            by_hand: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Watches the directories in which cgroups of a table may appear. Returns the cgroups of the table
    /// that exist now. Call it before the table is applied: each later change causes an event.
    ///
    /// The second value is the last directory that could not be watched or read; the others are.
    pub(crate) fn watch_table(
        &mut self,
        session: &Session,
        table: &Table,
    ) -> (HashMap<PathBuf, u64>, Option<Error>) {
        self.index = Arc::new(CgroupIndex::of(table));
        self.watch.begin(&self.index);
        let mut walk = Walk::default();
        walk.descend(self, session, PathBuf::new(), &self.index.root());
        let outer: Vec<_> = self.by_hand.keys().cloned().collect();
        for outer in outer {
            if !walk.watched.contains(&outer) {
                walk.watch(self, session, outer, &Position::default());
            }
        }
        self.watch.end(&walk.watched);
        (walk.found, walk.failed)
    }

    /// Reads which app has which cgroup, after an apply; `found` are the cgroups of the table.
    ///
    /// # Errors
    ///
    /// If that cannot be read, or a directory cannot be watched.
    pub(crate) fn update_holders(
        &mut self,
        session: &Session,
        found: HashMap<PathBuf, u64>,
    ) -> Result<()> {
        self.holders = session.cgroup_holders()?;
        self.held = found;
        self.held.retain(|_, id| self.holders.has(*id));
        let by_hand: Vec<_> = self.holders.by_hand().collect();
        self.by_hand.clear();
        for (id, path) in session.paths_of(&by_hand)? {
            if let (Some(outer), Some(name)) = (path.parent(), path.file_name()) {
                let names = self.by_hand.entry(outer.to_owned()).or_default();
                names.insert(name.to_owned());
            }
            // The cgroup may have been removed before the watch began; then no event comes for it.
            self.changed.insert(path.clone());
            self.held.insert(path, id);
        }
        let mut walk = Walk::default();
        let outer: Vec<_> = self.by_hand.keys().cloned().collect();
        for outer in outer {
            let position = self.position(&outer);
            walk.watch(self, session, outer, &position);
        }
        walk.failed.map_or(Ok(()), Err)
    }

    /// Takes the changes since the last call, or a part of them.
    ///
    /// # Errors
    ///
    /// If a cgroup cannot be looked at.
    pub(crate) fn take_changes(&mut self, session: &Session) -> Result<CgroupChanges> {
        let news = self.watch.take_news();
        self.changed.extend(news.changed);
        if news.lost {
            self.changed.clear();
        }
        let mut changes = CgroupChanges { lost: news.lost, ..CgroupChanges::default() };
        for _ in 0..AT_ONCE {
            let Some(path) = self.changed.pop_first() else {
                break;
            };
            self.look_at(session, path, &mut changes)?;
        }
        Ok(changes)
    }

    /// Whether some changed cgroups are not looked at yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Records the paths of cgroups that apps have links on now.
    pub(crate) fn record_attached(&mut self, came: Vec<NewCgroup>) {
        let held = came.into_iter().filter(|new| self.holders.has(new.id));
        self.held.extend(held.map(|new| (new.below, new.id)));
    }

    /// Finds out how a cgroup, and those of the table below it, changed.
    fn look_at(
        &mut self,
        session: &Session,
        path: PathBuf,
        changes: &mut CgroupChanges,
    ) -> Result<()> {
        let now = session.id_of(&path)?;
        let held = self.held.get(&path).copied();
        if let Some(held) = held.filter(|held| now != Some(*held)) {
            self.held.remove(&path);
            changes.went.push(held);
        }
        let Some(id) = now else {
            return Ok(());
        };
        let position = self.position(&path);
        if held != now {
            match self.index.owner(&position) {
                Owner::App { name: app, named } => {
                    changes.came.push(NewCgroup { app, named, below: path.clone(), id });
                }
                Owner::Contested(apps) => changes.contested.push((path.clone(), apps)),
                Owner::Nobody => {}
            }
        }
        if self.index.leads_on(&position) {
            let mut walk = Walk::default();
            for inner in walk.entries(self, session, path, &position) {
                self.look_at(session, inner, changes)?;
            }
            walk.failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    fn position(&self, path: &Path) -> Position {
        path.iter().fold(self.index.root(), |at, name| self.index.step(&at, name))
    }
}

/// A walk through the directories in which cgroups of the table may appear.
#[derive(Default)]
struct Walk {
    watched: HashSet<PathBuf>,
    /// The cgroups of the table that exist, by path.
    found: HashMap<PathBuf, u64>,
    failed: Option<Error>,
}

impl Walk {
    /// Watches a directory, and those below it that lead to cgroups of the table. Finds these cgroups.
    fn descend(
        &mut self,
        set: &mut CgroupWatchSet,
        session: &Session,
        below: PathBuf,
        at: &Position,
    ) {
        if !set.index.leads_on(at) {
            return;
        }
        for inner in self.entries(set, session, below, at) {
            let position = set.position(&inner);
            if set.index.owner(&position) != Owner::Nobody {
                match session.id_of(&inner) {
                    Ok(Some(id)) => drop(self.found.insert(inner.clone(), id)),
                    Ok(None) => {}
                    Err(error) => self.failed = Some(error.into()),
                }
            }
            self.descend(set, session, inner, &position);
        }
    }

    /// Watches a directory. Returns its entries that matter to the table; some of them may not exist.
    fn entries(
        &mut self,
        set: &mut CgroupWatchSet,
        session: &Session,
        below: PathBuf,
        at: &Position,
    ) -> BTreeSet<PathBuf> {
        if !self.watch(set, session, below.clone(), at) {
            return BTreeSet::new();
        }
        let index = &set.index;
        let (names, patterns) = index.names(at);
        let mut inner: BTreeSet<_> = names.map(|name| below.join(name)).collect();
        if patterns {
            match session.names_in(&below) {
                Ok(names) => {
                    let ours = |name: &OsString| !index.step(at, name).is_nowhere();
                    inner.extend(names.into_iter().filter(ours).map(|name| below.join(name)));
                }
                Err(error) => self.failed = Some(error.into()),
            }
        }
        inner
    }

    /// Watches a directory. Returns whether it exists.
    fn watch(
        &mut self,
        set: &mut CgroupWatchSet,
        session: &Session,
        below: PathBuf,
        at: &Position,
    ) -> bool {
        let held = set.by_hand.get(&below).cloned().unwrap_or_default();
        let mount = match session.cgroup_mount() {
            Ok(mount) => mount,
            Err(error) => {
                self.failed = Some(error.into());
                return false;
            }
        };
        let there = match set.watch.watch(&mount, &below, at, held) {
            Ok(_) => true,
            Err(error) if is_gone(&error) => false,
            Err(error) => {
                self.failed = Some(error).context(WATCH_LIMIT).err();
                // It exists, and can be read without a watch.
                true
            }
        };
        if there {
            self.watched.insert(below);
        }
        there
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ENODEV)
}
