//! Cgroups that a table matches, and the directories to watch for new or removed ones.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    io, mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result};
use vipnat_core::table::{CgroupIndex, Cgroups, Component, Owner, Position, Table};

use super::{cgroup_watch::CgroupWatch, file::WATCH_LIMIT};
use crate::reconcile::{CgroupHolders, CgroupView, Live, NewCgroup, Session};

/// The largest number of cgroups to look at in one go. In between, other commands can attach cgroups.
const AT_ONCE: usize = 256;

/// The cgroups that apps have, and those that the table may give them.
pub(crate) struct CgroupWatchSet {
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

/// The cgroups of a table, or of some apps, that exist.
#[derive(Debug, Default)]
pub(crate) struct FoundCgroups {
    /// Their ids, by path below the mount.
    pub(crate) cgroups: HashMap<PathBuf, u64>,
    /// The last directory that could not be watched or read. The others are.
    pub(crate) failed: Option<Error>,
}

impl CgroupWatchSet {
    /// Watches nothing yet.
    pub(crate) fn new(watch: CgroupWatch) -> Self {
        Self {
            watch,
            holders: CgroupHolders::default(),
            held: HashMap::new(),
            by_hand: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Watches the directories in which cgroups of a table may appear. Returns the cgroups of the table
    /// that exist now. Call it before the table is applied: each later change causes an event.
    pub(crate) fn watch_table(&mut self, session: &Session, table: &Table) -> FoundCgroups {
        *self.watch.index_mut() = CgroupIndex::of(table);
        let root = self.watch.index().root();
        self.walk(session, |walk, set| {
            walk.descend(set, PathBuf::new(), &root);
            let outer: Vec<_> = set.by_hand.keys().cloned().collect();
            for below in &outer {
                walk.watch(set, below);
            }
            let CgroupWatchSet { watch, by_hand, .. } = set;
            watch.prune(|below| by_hand.contains_key(below));
        })
    }

    /// The same after a change of the paths and patterns of these apps in the table. It costs as much as they
    /// alone. Returns only their cgroups.
    pub(crate) fn watch_apps<'a>(
        &mut self,
        session: &Session,
        table: &Table,
        apps: impl Iterator<Item = &'a str>,
    ) -> FoundCgroups {
        let (mut before, mut now) = (Vec::new(), Vec::new());
        {
            let mut index = self.watch.index_mut();
            for app in apps {
                let cgroups = table.apps.get(app).and_then(|app| app.cgroup.as_ref());
                before.extend(index.change(app, cgroups));
                now.extend(cgroups);
            }
        }
        if before.is_empty() && now.is_empty() {
            return FoundCgroups::default();
        }
        self.walk(session, |walk, set| {
            now.iter().for_each(|cgroups| walk.follow(set, cgroups.components(), PathBuf::new()));
            set.drop_unwanted(&before);
        })
    }

    fn walk(
        &mut self,
        session: &Session,
        walk: impl FnOnce(&mut Walk<'_>, &mut Self),
    ) -> FoundCgroups {
        let view = match session.cgroups() {
            Ok(view) => view,
            Err(error) => {
                return FoundCgroups { failed: Some(error.into()), ..FoundCgroups::default() };
            }
        };
        let mut walked = Walk::new(&view);
        walk(&mut walked, self);
        walked.found
    }

    /// Stops to watch the directories that only these cgroups needed.
    fn drop_unwanted(&mut self, before: &[Cgroups]) {
        let Self { watch, by_hand, .. } = self;
        let mut outer = BTreeSet::new();
        for cgroups in before {
            let mut path = PathBuf::new();
            let [on_the_way @ .., _] = cgroups.components() else {
                continue;
            };
            outer.insert(path.clone());
            for component in on_the_way {
                let Component::Name(name) = component else {
                    return watch.prune(|below| by_hand.contains_key(below));
                };
                path.push(name);
                outer.insert(path.clone());
            }
        }
        for below in outer.iter().filter(|below| !by_hand.contains_key(*below)) {
            let leads_on = {
                let index = watch.index();
                index.leads_on(&index.at(below))
            };
            if !leads_on {
                watch.unwatch(below);
            }
        }
    }

    /// Looks whether cgroups of the table came without an event, and whether all directories are watched.
    /// Returns the reason if one can't be.
    pub(crate) fn review(&mut self, session: &Session) -> Option<Error> {
        let root = self.watch.index().root();
        let FoundCgroups { cgroups, failed } = self.walk(session, |walk, set| {
            // The review of the links looks at the others.
            walk.only_new = true;
            walk.descend(set, PathBuf::new(), &root);
        });
        self.changed.extend(cgroups.into_keys());
        failed
    }

    /// Reads which app has which cgroup, after an apply; `found` are the cgroups of the table.
    ///
    /// # Errors
    ///
    /// If that cannot be read, or a directory cannot be watched.
    pub(crate) fn read_holders(
        &mut self,
        session: &Session,
        found: HashMap<PathBuf, u64>,
    ) -> Result<()> {
        self.holders = session.cgroup_holders()?;
        self.held.clear();
        self.hold(found);
        let by_hand: Vec<_> = self.holders.by_hand().collect();
        let by_hand = session.paths_of(&by_hand)?.into_iter();
        let before = mem::take(&mut self.by_hand);
        by_hand.for_each(|(id, path)| self.hold_by_hand(path, id));
        let changed = before.keys().chain(self.by_hand.keys());
        let changed = changed.filter(|outer| before.get(*outer) != self.by_hand.get(*outer));
        let changed: HashSet<_> = changed.cloned().collect();
        self.watch_by_hand(session, &changed)
    }

    /// The same for these apps, which a change has moved.
    ///
    /// # Errors
    ///
    /// If that cannot be read.
    pub(crate) fn update_holders<'a>(
        &mut self,
        session: &Session,
        live: &Live,
        apps: impl Iterator<Item = &'a str>,
        found: HashMap<PathBuf, u64>,
    ) -> Result<()> {
        for (id, below) in session.update_holders(&mut self.holders, live, apps)? {
            if let Some(below) = below.filter(|below| self.held.get(below) == Some(&id)) {
                self.held.remove(&below);
            }
        }
        self.hold(found);
        Ok(())
    }

    /// Records the paths of those cgroups that apps have.
    fn hold(&mut self, found: HashMap<PathBuf, u64>) {
        for (below, id) in found {
            if self.holders.has(id) {
                self.holders.place(id, &below);
                self.held.insert(below, id);
            }
        }
    }

    /// Records what a review of the links found: cgroups that `vipnat attach` has attached since the last
    /// apply, by path and id, and the paths of cgroups that are gone. Other ones may be there now.
    ///
    /// # Errors
    ///
    /// If a directory cannot be watched.
    pub(crate) fn record_reviewed(
        &mut self,
        session: &Session,
        by_hand: Vec<(PathBuf, u64)>,
        gone: Vec<PathBuf>,
    ) -> Result<()> {
        self.changed.extend(gone);
        let outer = by_hand.iter().filter_map(|(path, _)| path.parent().map(Path::to_owned));
        let outer = outer.collect();
        by_hand.into_iter().for_each(|(path, id)| self.hold_by_hand(path, id));
        self.watch_by_hand(session, &outer)
    }

    fn hold_by_hand(&mut self, path: PathBuf, id: u64) {
        if let (Some(outer), Some(name)) = (path.parent(), path.file_name()) {
            self.by_hand.entry(outer.to_owned()).or_default().insert(name.to_owned());
        }
        self.holders.place(id, &path);
        // The cgroup may have been removed before the watch began; then no event comes for it.
        self.changed.insert(path.clone());
        self.held.insert(path, id);
    }

    /// Watches directories in which other names matter than before.
    fn watch_by_hand(&mut self, session: &Session, outer: &HashSet<PathBuf>) -> Result<()> {
        if outer.is_empty() {
            return Ok(());
        }
        let watched = self.walk(session, |walk, set| {
            for below in outer {
                walk.watch(set, below);
            }
        });
        watched.failed.map_or(Ok(()), Err)
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
        if self.changed.is_empty() {
            return Ok(changes);
        }
        let view = session.cgroups()?;
        for _ in 0..AT_ONCE {
            let Some(path) = self.changed.pop_first() else {
                break;
            };
            self.look_at(&view, path, &mut changes)?;
        }
        Ok(changes)
    }

    /// Whether some changed cgroups are not looked at yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Records the paths of cgroups that apps have links on now.
    pub(crate) fn record_attached(&mut self, came: Vec<NewCgroup>) {
        self.hold(came.into_iter().map(|new| (new.below, new.id)).collect());
    }

    /// Finds out how a cgroup, and those of the table below it, changed.
    fn look_at(
        &mut self,
        view: &CgroupView,
        path: PathBuf,
        changes: &mut CgroupChanges,
    ) -> Result<()> {
        let now = view.id_of(&path)?;
        let held = self.held.get(&path).copied();
        if let Some(held) = held.filter(|held| now != Some(*held)) {
            self.held.remove(&path);
            changes.went.push(held);
        }
        let Some(id) = now else {
            return Ok(());
        };
        let (position, owner, leads_on) = {
            let index = self.watch.index();
            let position = index.at(&path);
            let (owner, leads_on) = (index.owner(&position), index.leads_on(&position));
            (position, owner, leads_on)
        };
        if held != now {
            match owner {
                Owner::App { name: app, named } => {
                    changes.came.push(NewCgroup { app, named, below: path.clone(), id });
                }
                Owner::Contested(apps) => changes.contested.push((path.clone(), apps)),
                Owner::Nobody => {}
            }
        }
        if leads_on {
            let mut walk = Walk::new(view);
            for name in walk.entries(self, &path, &position) {
                self.look_at(view, path.join(name), changes)?;
            }
            walk.found.failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}

/// A walk through the directories in which cgroups of the table may appear.
struct Walk<'a> {
    view: &'a CgroupView,
    /// Whether it finds only cgroups that no app has.
    only_new: bool,
    /// The directories that this walk has watched. Many apps have cgroups in one directory.
    watched: HashMap<PathBuf, bool>,
    found: FoundCgroups,
}

impl<'a> Walk<'a> {
    fn new(view: &'a CgroupView) -> Self {
        Self { view, only_new: false, watched: HashMap::new(), found: FoundCgroups::default() }
    }

    /// Watches a directory, and those below it that lead to cgroups of the table. Finds these cgroups.
    fn descend(&mut self, set: &mut CgroupWatchSet, below: PathBuf, at: &Position) {
        if !set.watch.index().leads_on(at) {
            return;
        }
        for name in self.entries(set, &below, at) {
            let (inner, position, is_ours) = {
                let index = set.watch.index();
                let position = index.step(at, &name);
                let is_ours = index.is_owned(&position);
                (below.join(name), position, is_ours)
            };
            if is_ours && !(self.only_new && set.held.contains_key(&inner)) {
                self.find(&inner);
            }
            self.descend(set, inner, &position);
        }
    }

    /// The same for the cgroups of one app.
    fn follow(&mut self, set: &mut CgroupWatchSet, components: &[Component], below: PathBuf) {
        let [component, rest @ ..] = components else {
            return self.find(&below);
        };
        if !self.watch(set, &below) {
            return;
        }
        match component {
            Component::Name(name) => self.follow(set, rest, below.join(name)),
            Component::Pattern(_) => {
                for name in self.names(&below).iter().filter(|name| component.matches(name)) {
                    self.follow(set, rest, below.join(name));
                }
            }
        }
    }

    /// Finds a cgroup.
    fn find(&mut self, below: &Path) {
        match self.view.id_of(below) {
            Ok(Some(id)) => drop(self.found.cgroups.insert(below.to_owned(), id)),
            Ok(None) => {}
            Err(error) => self.found.failed = Some(error.into()),
        }
    }

    fn names(&mut self, below: &Path) -> Vec<OsString> {
        let names = self.view.names_in(below);
        names.unwrap_or_else(|error| {
            self.found.failed = Some(error.into());
            Vec::new()
        })
    }

    /// Watches a directory. Returns the names in it that matter to the table; some of them may not exist.
    fn entries(
        &mut self,
        set: &mut CgroupWatchSet,
        below: &Path,
        at: &Position,
    ) -> BTreeSet<OsString> {
        if !self.watch(set, below) {
            return BTreeSet::new();
        }
        let index = set.watch.index();
        let (names, patterns) = index.names(at);
        let mut inner: BTreeSet<_> = names.map(OsStr::to_owned).collect();
        if patterns {
            let names = self.names(below).into_iter();
            inner.extend(names.filter(|name| !index.step(at, name).is_nowhere()));
        }
        inner
    }

    /// Watches a directory. Returns whether it exists.
    fn watch(&mut self, set: &mut CgroupWatchSet, below: &Path) -> bool {
        if let Some(there) = self.watched.get(below) {
            return *there;
        }
        let held = set.by_hand.get(below).cloned().unwrap_or_default();
        let there = match set.watch.watch(self.view.mount(), below, held) {
            Ok(_) => true,
            Err(error) if is_gone(&error) => false,
            Err(error) => {
                self.found.failed = Some(error).context(WATCH_LIMIT).err();
                // It exists, and can be read without a watch.
                true
            }
        };
        self.watched.insert(below.to_owned(), there);
        there
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ENODEV)
}
