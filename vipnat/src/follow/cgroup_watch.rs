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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    index: Arc<CgroupIndex>,
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
    position: Position,
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
        let known: Arc<Mutex<Known>> = Arc::default();
        let shared = Arc::clone(&known);
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
                events.for_each(|event| known.note(&event));
                let wakes = known.has_news() && !mem::replace(&mut known.woken, true);
                drop(known);
                if wakes {
                    wake();
                }
                thread::sleep(pace.rest(Instant::now()));
            }
        });
        Ok(Self { watches, known })
    }

    /// Begins to watch for another table. The caller watches each directory again, then calls
    /// [`CgroupWatch::end`], which drops the other ones.
    pub(crate) fn begin(&mut self, index: &Arc<CgroupIndex>) {
        let mut known = lock(&self.known);
        known.index = Arc::clone(index);
        // A position belongs to the former index, so it means nothing until the directory is watched again.
        for directory in known.directories.values_mut() {
            directory.position = Position::default();
        }
    }

    /// Watches a directory, or changes the names that matter in it. Returns whether the directory is a new
    /// one. Then nothing is known of what happened in it before.
    ///
    /// # Errors
    ///
    /// If it does not exist, or the kernel allows no more watches.
    pub(crate) fn watch(
        &mut self,
        mount: &Path,
        below: &Path,
        position: &Position,
        held: HashSet<OsString>,
    ) -> io::Result<bool> {
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ONLYDIR;
        // The lock is held, so that no event is handled before its directory is known. The kernel gives the
        // same watch again for the same directory.
        let mut known = lock(&self.known);
        let watch = self.watches.add(mount.join(below), mask)?;
        let directory = Directory { below: below.to_owned(), position: position.clone(), held };
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

    /// Stops to watch all directories but these.
    pub(crate) fn end(&mut self, wanted: &HashSet<PathBuf>) {
        let mut known = lock(&self.known);
        let known = &mut *known;
        let watches = &mut self.watches;
        known.watched.retain(|below, watch| {
            let wanted = wanted.contains(below);
            if !wanted {
                known.directories.remove(&watch.get_watch_descriptor_id());
                let _ = watches.remove(watch.clone());
            }
            wanted
        });
    }

    /// Takes the changes since the last call.
    pub(crate) fn take_news(&mut self) -> CgroupNews {
        let mut known = lock(&self.known);
        known.woken = false;
        mem::take(&mut known.news)
    }
}

impl Known {
    fn note(&mut self, event: &Event<&OsStr>) {
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
        if directory.held.contains(name) || !self.index.step(&directory.position, name).is_nowhere()
        {
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
        index: Arc<CgroupIndex>,
        woken: Receiver<()>,
    }

    impl Scene {
        fn new(cgroup: &str) -> Self {
            let mount = tempfile::tempdir().unwrap();
            let text = format!("[apps.a]\ncgroup = \"{cgroup}\"");
            let table = Table::parse(text.as_bytes(), "table", mount.path()).unwrap();
            let index = Arc::new(CgroupIndex::of(&table));
            let (sender, woken) = mpsc::channel();
            let mut watch = CgroupWatch::new(move || sender.send(()).unwrap_or(())).unwrap();
            watch.begin(&index);
            Self { mount, watch, index, woken }
        }

        fn watch(&mut self, below: &str, held: &[&str]) -> io::Result<bool> {
            let step = |at: Position, name: &OsStr| self.index.step(&at, name);
            let position = Path::new(below).iter().fold(self.index.root(), step);
            let held = held.iter().map(OsString::from).collect();
            self.watch.watch(self.mount.path(), Path::new(below), &position, held)
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
        scene.watch.end(&HashSet::from([PathBuf::new()]));
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
