//! Where the cgroups of a table are, and where others of it may appear.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Error, Result};

use crate::follow::reading::WATCH_LIMIT;
use crate::{
    follow::CgroupWatch,
    reconcile::{Arrival, Holdings, Session},
};
use vipnat_core::table::{CgroupIndex, Owner, Position, Table};

/// So many cgroups are looked at in one go: others may want to attach some meanwhile.
const AT_ONCE: usize = 256;

/// What is known of the cgroups around a table.
pub(crate) struct Places {
    index: Arc<CgroupIndex>,
    watch: CgroupWatch,
    /// Who has which cgroup.
    pub(crate) holdings: Holdings,
    /// Where those cgroups are, below the mount.
    held: HashMap<PathBuf, u64>,
    /// Those of them that were attached by hand: their names, by directory.
    by_hand: HashMap<PathBuf, HashSet<OsString>>,
    /// What came or went, and is still to be looked at.
    changed: BTreeSet<PathBuf>,
}

/// What came and went.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// What the table gives to an app.
    pub(crate) came: Vec<Arrival>,
    /// What an app had, by id.
    pub(crate) went: Vec<u64>,
    /// What it gives to nobody, since patterns of these apps match it.
    pub(crate) contested: Vec<(PathBuf, Vec<String>)>,
    /// There was more, and nobody knows what.
    pub(crate) lost: bool,
}

impl Places {
    pub(crate) fn new(watch: CgroupWatch) -> Self {
        Self {
            index: Arc::default(),
            watch,
            holdings: Holdings::default(),
            held: HashMap::new(),
            by_hand: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Watches for what a table waits for. Returns the cgroups of it that are there now. What comes or goes
    /// after this is told, so it is to be called before anybody else looks at them.
    ///
    /// # Errors
    ///
    /// Second, what can't be watched or read. All else is.
    pub(crate) fn watch(
        &mut self,
        datapath: &Session,
        table: &Table,
    ) -> (HashMap<PathBuf, u64>, Option<Error>) {
        self.index = Arc::new(CgroupIndex::of(table));
        self.watch.begin(&self.index);
        let mut walk = Walk::default();
        walk.descend(self, datapath, PathBuf::new(), &self.index.root());
        let outer: Vec<_> = self.by_hand.keys().cloned().collect();
        for outer in outer {
            if !walk.watched.contains(&outer) {
                walk.watch(self, datapath, outer, &Position::default());
            }
        }
        self.watch.end(&walk.watched);
        (walk.found, walk.failed)
    }

    /// Learns who has which cgroup, after an apply; `found` are those of the table.
    ///
    /// # Errors
    ///
    /// If it can't be told, or a place can't be watched.
    pub(crate) fn learn(&mut self, datapath: &Session, found: HashMap<PathBuf, u64>) -> Result<()> {
        self.holdings = datapath.holdings()?;
        self.held = found;
        self.held.retain(|_, id| self.holdings.has(*id));
        let by_hand: Vec<_> = self.holdings.by_hand().collect();
        self.by_hand.clear();
        for (id, path) in datapath.paths_of(&by_hand)? {
            if let (Some(outer), Some(name)) = (path.parent(), path.file_name()) {
                let names = self.by_hand.entry(outer.to_owned()).or_default();
                names.insert(name.to_owned());
            }
            // It may have gone before it was watched, which nothing tells.
            self.changed.insert(path.clone());
            self.held.insert(path, id);
        }
        let mut walk = Walk::default();
        let outer: Vec<_> = self.by_hand.keys().cloned().collect();
        for outer in outer {
            let position = self.position(&outer);
            walk.watch(self, datapath, outer, &position);
        }
        walk.failed.map_or(Ok(()), Err)
    }

    /// What came and went since this was asked last, or a part of it.
    ///
    /// # Errors
    ///
    /// If it can't be told.
    pub(crate) fn moves(&mut self, datapath: &Session) -> Result<Moves> {
        let news = self.watch.news();
        self.changed.extend(news.changed);
        if news.lost {
            self.changed.clear();
        }
        let mut moves = Moves { lost: news.lost, ..Moves::default() };
        for _ in 0..AT_ONCE {
            let Some(path) = self.changed.pop_first() else {
                break;
            };
            self.look_at(datapath, path, &mut moves)?;
        }
        Ok(moves)
    }

    /// Whether some of them are still to be looked at.
    pub(crate) fn has_more(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Notes where those are that apps have links on now.
    pub(crate) fn note(&mut self, came: Vec<Arrival>) {
        let held = came.into_iter().filter(|arrival| self.holdings.has(arrival.id));
        self.held.extend(held.map(|arrival| (arrival.below, arrival.id)));
    }

    fn look_at(&mut self, datapath: &Session, path: PathBuf, moves: &mut Moves) -> Result<()> {
        let now = datapath.id_of(&path)?;
        let held = self.held.get(&path).copied();
        if let Some(held) = held.filter(|held| now != Some(*held)) {
            self.held.remove(&path);
            moves.went.push(held);
        }
        let Some(id) = now else {
            return Ok(());
        };
        let position = self.position(&path);
        if held != now {
            match self.index.owner(&position) {
                Owner::App { name: app, named } => {
                    moves.came.push(Arrival { app, named, below: path.clone(), id });
                }
                Owner::Contested(apps) => moves.contested.push((path.clone(), apps)),
                Owner::Nobody => {}
            }
        }
        if self.index.leads_on(&position) {
            let mut walk = Walk::default();
            for inner in walk.inner(self, datapath, path, &position) {
                self.look_at(datapath, inner, moves)?;
            }
            walk.failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    fn position(&self, path: &Path) -> Position {
        path.iter().fold(self.index.root(), |at, name| self.index.step(&at, name))
    }
}

/// A way through the directories in which something may appear.
#[derive(Default)]
struct Walk {
    watched: HashSet<PathBuf>,
    /// The cgroups of the table.
    found: HashMap<PathBuf, u64>,
    failed: Option<Error>,
}

impl Walk {
    /// Watches a directory and all below it that lead to cgroups of the table, and finds these.
    fn descend(&mut self, places: &mut Places, datapath: &Session, below: PathBuf, at: &Position) {
        if !places.index.leads_on(at) {
            return;
        }
        for inner in self.inner(places, datapath, below, at) {
            let position = places.position(&inner);
            if places.index.owner(&position) != Owner::Nobody {
                match datapath.id_of(&inner) {
                    Ok(Some(id)) => drop(self.found.insert(inner.clone(), id)),
                    Ok(None) => {}
                    Err(error) => self.failed = Some(error.into()),
                }
            }
            self.descend(places, datapath, inner, &position);
        }
    }

    /// Watches a directory. Returns what may be in it that means something to the table.
    fn inner(
        &mut self,
        places: &mut Places,
        datapath: &Session,
        below: PathBuf,
        at: &Position,
    ) -> BTreeSet<PathBuf> {
        if !self.watch(places, datapath, below.clone(), at) {
            return BTreeSet::new();
        }
        let index = &places.index;
        let (names, patterns) = index.names(at);
        let mut inner: BTreeSet<_> = names.map(|name| below.join(name)).collect();
        if patterns {
            match datapath.names_in(&below) {
                Ok(names) => {
                    let ours = |name: &OsString| !index.step(at, name).is_nowhere();
                    inner.extend(names.into_iter().filter(ours).map(|name| below.join(name)));
                }
                Err(error) => self.failed = Some(error.into()),
            }
        }
        inner
    }

    /// Watches a directory. Returns whether it is there.
    fn watch(
        &mut self,
        places: &mut Places,
        datapath: &Session,
        below: PathBuf,
        at: &Position,
    ) -> bool {
        let held = places.by_hand.get(&below).cloned().unwrap_or_default();
        let mount = match datapath.cgroup_mount() {
            Ok(mount) => mount,
            Err(error) => {
                self.failed = Some(error.into());
                return false;
            }
        };
        let there = match places.watch.watch(&mount, &below, at, held) {
            Ok(_) => true,
            Err(error) if is_gone(&error) => false,
            Err(error) => {
                self.failed = Some(error).context(WATCH_LIMIT).err();
                // It can be read all the same.
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
