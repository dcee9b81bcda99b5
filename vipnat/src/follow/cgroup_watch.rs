//! Watches directories of cgroups with inotify, for cgroups that the table matches or an app has.
//!
//! Other users may make thousands of cgroups a second in these directories. An event of theirs costs only a
//! lookup, on the thread that reads events. A cgroup of ours is noted once, however often it comes and goes.
//! A flood of events is read in batches.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Instant,
};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use vipnat_core::table::{CgroupIndex, Position};

use super::pace::Pace;

/// The largest number of changes to note. After more, a full reconciliation is needed anyway.
const MAX_CHANGES: usize = 4096;

/// Watched directories of cgroups.
#[derive(Debug)]
pub(crate) struct CgroupWatch {
    watches: Watches,
    known: Arc<Mutex<Known>>,
    index: Arc<RwLock<CgroupIndex>>,
}

/// The changes since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct CgroupNews {
    /// The cgroups that came or went, below the mount. Some may have come back unchanged.
    pub changed: BTreeSet<PathBuf>,
    /// Events were lost, so there may be more changes.
    pub lost: bool,
}

/// Shared with the thread that reads events.
#[derive(Debug, Default)]
struct Known {
    /// The watched directories, by the number of the watch.
    directories: HashMap<i32, Directory>,
    /// The watch of each directory, by its path below the mount.
    watched: HashMap<PathBuf, WatchDescriptor>,
    news: CgroupNews,
    /// The wake function was called since the news were last taken.
    woken: bool,
}

/// A watched directory.
#[derive(Debug)]
struct Directory {
    /// Its path below the mount.
    below: PathBuf,
    /// The names in it that matter even if the table does not match them.
    held: HashSet<OsString>,
}

impl CgroupWatch {
    /// Watches nothing yet. A thread of its own calls `wake` once for news, and again only after
    /// [`CgroupWatch::take_news`].
    ///
    /// # Errors
    ///
    /// If the limit of inotify instances is reached.
    pub(crate) fn new(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let mut inotify = Inotify::init()?;
        let watches = inotify.watches();
        let (known, index): (Arc<Mutex<Known>>, Arc<RwLock<CgroupIndex>>) = Default::default();
        let (shared, matches) = (Arc::clone(&known), Arc::clone(&index));
        thread::spawn(move || {
            let (mut buffer, mut pace) = ([0; 1 << 16], Pace::default());
            loop {
                let Ok(events) = inotify.read_events_blocking(&mut buffer) else {
                    // Later changes cause no events any more.
                    lock(&shared).news.lost = true;
                    wake();
                    return;
                };
                let mut known = lock(&shared);
                {
                    let index = read(&matches);
                    let mut last = None;
                    events.for_each(|event| known.note(&event, &index, &mut last));
                }
                let wakes = known.has_news() && !mem::replace(&mut known.woken, true);
                drop(known);
                if wakes {
                    wake();
                }
                thread::sleep(pace.rest(Instant::now()));
            }
        });
        Ok(Self { watches, known, index })
    }

    /// The index of the cgroups that matter. The thread that reads events waits for it.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, CgroupIndex> {
        read(&self.index)
    }

    /// The same, to change it. Then watch the directories that the change adds.
    pub(crate) fn index_mut(&mut self) -> RwLockWriteGuard<'_, CgroupIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a directory, or changes the names that matter in it although the index has none of them.
    /// Returns whether the directory is a new one. Then nothing is known of what happened in it before.
    ///
    /// # Errors
    ///
    /// If it does not exist, or the kernel allows no more watches.
    pub(crate) fn watch(
        &mut self,
        mount: &Path,
        below: &Path,
        held: HashSet<OsString>,
    ) -> io::Result<bool> {
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ONLYDIR;
        // The lock is held, so that no event is handled before its directory is known. The kernel gives the
        // same watch again for the same directory.
        let mut known = lock(&self.known);
        let watch = self.watches.add(mount.join(below), mask)?;
        let directory = Directory { below: below.to_owned(), held };
        known.directories.insert(watch.get_watch_descriptor_id(), directory);
        match known.watched.insert(below.to_owned(), watch.clone()) {
            Some(before) if before == watch => Ok(false),
            Some(before) => {
                known.directories.remove(&before.get_watch_descriptor_id());
                // This fails if the directory is gone, since the kernel then removed the watch.
                let _ = self.watches.remove(before);
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Stops to watch the directories in which the index has nothing, except those that `also` matter.
    pub(crate) fn prune(&mut self, also: impl Fn(&Path) -> bool) {
        let mut known = lock(&self.known);
        let known = &mut *known;
        let (watches, index) = (&mut self.watches, read(&self.index));
        known.watched.retain(|below, watch| {
            let wanted = also(below) || index.leads_on(&index.at(below));
            if !wanted {
                known.directories.remove(&watch.get_watch_descriptor_id());
                let _ = watches.remove(watch.clone());
            }
            wanted
        });
    }

    /// Stops to watch a directory.
    pub(crate) fn unwatch(&mut self, below: &Path) {
        let mut known = lock(&self.known);
        if let Some(watch) = known.watched.remove(below) {
            known.directories.remove(&watch.get_watch_descriptor_id());
            let _ = self.watches.remove(watch);
        }
    }

    /// Takes the changes since the last call.
    pub(crate) fn take_news(&mut self) -> CgroupNews {
        let mut known = lock(&self.known);
        known.woken = false;
        mem::take(&mut known.news)
    }
}

impl Known {
    /// Notes an event. `last` is the position of the directory of the last event, and its watch.
    fn note(
        &mut self,
        event: &Event<&OsStr>,
        index: &CgroupIndex,
        last: &mut Option<(i32, Position)>,
    ) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.news.lost = true;
            return;
        }
        let number = event.wd.get_watch_descriptor_id();
        let Some(directory) = self.directories.get(&number) else {
            return;
        };
        if event.mask.contains(EventMask::IGNORED) {
            // The directory is gone. The watch of its parent has an event for that.
            if self.watched.get(&directory.below).is_some_and(|watch| *watch == event.wd) {
                self.watched.remove(&directory.below);
            }
            self.directories.remove(&number);
            return;
        }
        let Some(name) = event.name.filter(|_| event.mask.contains(EventMask::ISDIR)) else {
            return;
        };
        if last.as_ref().is_none_or(|(watch, _)| *watch != number) {
            *last = Some((number, index.at(&directory.below)));
        }
        let matched = last.as_ref().is_some_and(|(_, at)| !index.step(at, name).is_nowhere());
        if matched || directory.held.contains(name) {
            self.news.changed.insert(directory.below.join(name));
        }
        if self.news.changed.len() > MAX_CHANGES {
            self.news = CgroupNews { changed: BTreeSet::new(), lost: true };
        }
    }

    fn has_news(&self) -> bool {
        self.news.lost || !self.news.changed.is_empty()
    }
}

fn read(index: &RwLock<CgroupIndex>) -> RwLockReadGuard<'_, CgroupIndex> {
    index.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::mpsc::{self, Receiver},
        time::{Duration, Instant},
    };

    use vipnat_core::table::Table;

    use super::*;

    struct Scene {
        mount: tempfile::TempDir,
        watch: CgroupWatch,
        woken: Receiver<()>,
    }

    impl Scene {
        fn new(cgroup: &str) -> Self {
            let mount = tempfile::tempdir().unwrap();
            let text = format!("[apps.a]\ncgroup = \"{cgroup}\"");
            let table = Table::parse(text.as_bytes(), "table", mount.path()).unwrap();
            let (sender, woken) = mpsc::channel();
            let mut watch = CgroupWatch::new(move || sender.send(()).unwrap_or(())).unwrap();
            *watch.index_mut() = CgroupIndex::of(&table);
            Self { mount, watch, woken }
        }

        fn watch(&mut self, below: &str, held: &[&str]) -> io::Result<bool> {
            let held = held.iter().map(OsString::from).collect();
            self.watch.watch(self.mount.path(), Path::new(below), held)
        }

        fn make(&self, below: &str) {
            fs::create_dir(self.mount.path().join(below)).unwrap();
        }

        fn remove(&self, below: &str) {
            fs::remove_dir(self.mount.path().join(below)).unwrap();
        }

        /// All changes until no more come.
        fn told(&mut self) -> Vec<String> {
            let mut told = BTreeSet::new();
            while self.woken.recv_timeout(Duration::from_millis(300)).is_ok() {
                let news = self.watch.take_news();
                told.extend(news.changed);
                if news.lost {
                    told.insert("lost".into());
                }
            }
            told.iter().map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn only_what_the_table_waits_for_is_told_and_what_is_held() {
        let mut scene = Scene::new("lxc/shop-*");
        assert!(scene.watch("", &["by-hand"]).unwrap());
        assert!(!scene.watch("", &["by-hand"]).unwrap(), "it is watched already");
        for name in ["other", "by-hand", "lxc"] {
            scene.make(name);
        }
        fs::write(scene.mount.path().join("lxc.file"), "").unwrap();
        assert_eq!(scene.told(), ["by-hand", "lxc"]);
        assert!(scene.watch("lxc", &[]).unwrap());
        scene.make("lxc/shop-1");
        scene.make("lxc/blog");
        assert_eq!(scene.told(), ["lxc/shop-1"]);
        scene.remove("lxc/shop-1");
        scene.remove("lxc/blog");
        assert_eq!(scene.told(), ["lxc/shop-1"]);
        // Another directory of the same name.
        scene.remove("lxc");
        scene.make("lxc");
        assert_eq!(scene.told(), ["lxc"]);
        assert!(scene.watch("lxc", &[]).unwrap());
        scene.make("lxc/shop-1");
        assert_eq!(scene.told(), ["lxc/shop-1"]);
        scene.watch.prune(|_| false);
        scene.make("lxc/shop-3");
        assert_eq!(scene.told(), ["lxc/shop-3"], "the table has something there");
        *scene.watch.index_mut() = CgroupIndex::default();
        scene.watch.prune(|below| below == Path::new(""));
        scene.make("lxc/shop-2");
        assert_eq!(scene.told(), [""; 0]);
        assert!(scene.watch("none", &[]).is_err());
    }

    #[test]
    fn a_flood_is_told_once_and_takes_no_memory() {
        let mut scene = Scene::new("shop-*");
        scene.watch("", &[]).unwrap();
        for _ in 0..5000 {
            scene.make("foreign");
            scene.remove("foreign");
        }
        assert!(scene.woken.try_recv().is_err(), "the table does not match them");
        for _ in 0..1000 {
            scene.make("shop-1");
            scene.remove("shop-1");
        }
        scene.woken.recv_timeout(Duration::from_secs(20)).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(scene.woken.try_recv().is_err(), "the news were not taken since");
        assert_eq!(scene.watch.take_news().changed.len(), 1);
        for number in 0..=MAX_CHANGES {
            scene.make(&format!("shop-x{number}"));
        }
        let begun = Instant::now();
        while !lock(&scene.watch.known).news.lost {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "more changes are noted than the limit"
            );
            thread::sleep(Duration::from_millis(2));
        }
        assert!(lock(&scene.watch.known).news.changed.is_empty());
    }
}
