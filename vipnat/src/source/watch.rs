//! Directories watched with inotify: those of the table's file, and cgroups.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something in a directory of the file is written to, and not closed yet.
    FileBeingWritten,
    /// The file may be another one, or have been written.
    FileChanged,
    /// Cgroups came or went.
    CgroupsChanged,
    /// More happened than could be told, or watching failed: look at everything again.
    Unsure,
}

/// A set of watched directories.
pub struct Watch {
    watcher: RecommendedWatcher,
    /// Whose directories, by path; shared with the thread that receives events.
    kinds: Arc<Mutex<HashMap<PathBuf, Kind>>>,
    /// Which directory each path was: one that was replaced is watched no more.
    watched: HashMap<PathBuf, Identity>,
}

/// Inode number and time of birth, since numbers are given again.
type Identity = (u64, Option<SystemTime>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    files: bool,
    cgroups: bool,
}

impl Watch {
    /// Watches nothing yet. `tell` is called on a thread of its own.
    ///
    /// # Errors
    ///
    /// If there are too many users of inotify.
    pub fn new(tell: impl Fn(Notice) + Send + 'static) -> notify::Result<Self> {
        let kinds: Arc<Mutex<HashMap<PathBuf, Kind>>> = Arc::default();
        let known = Arc::clone(&kinds);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            notices(event, |place| known.get(place).copied()).into_iter().for_each(&tell);
        })?;
        Ok(Self { watcher, kinds, watched: HashMap::new() })
    }

    /// Watches exactly these directories from now on, as far as they exist. Returns whether there is
    /// one that was not watched before: what happened in it until now was not told.
    ///
    /// # Errors
    ///
    /// If the kernel allows no more watches (`fs.inotify.max_user_watches`).
    pub fn set(
        &mut self,
        files: &BTreeSet<PathBuf>,
        cgroups: &BTreeSet<PathBuf>,
    ) -> notify::Result<bool> {
        let kind =
            |path: &PathBuf| Kind { files: files.contains(path), cgroups: cgroups.contains(path) };
        let all = files.union(cgroups);
        let kinds = all.clone().map(|path| (path.clone(), kind(path))).collect();
        *self.kinds.lock().unwrap_or_else(PoisonError::into_inner) = kinds;

        let wanted: HashMap<_, _> =
            all.filter_map(|path| Some((path.clone(), identity(path)?))).collect();
        let old: Vec<_> = self.watched.keys().cloned().collect();
        for path in old {
            if self.watched.get(&path) != wanted.get(&path) {
                self.watched.remove(&path);
                // The kernel may have forgotten it already.
                let _ = self.watcher.unwatch(&path);
            }
        }
        let mut new = false;
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, identity);
                    new = true;
                }
                // It went meanwhile, which the directory above tells.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(new)
    }
}

/// What an event means, if anything.
fn notices(event: notify::Result<Event>, kind: impl Fn(&Path) -> Option<Kind>) -> Vec<Notice> {
    let Ok(event) = event else {
        return vec![Notice::Unsure];
    };
    if event.need_rescan() {
        return vec![Notice::Unsure];
    }
    let places = event.paths.iter().filter_map(|path| path.parent());
    let kinds: Vec<_> = places.filter_map(kind).collect();
    let mut notices = Vec::new();
    if kinds.iter().any(|kind| kind.files) {
        notices.extend(match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Notice::FileChanged),
            EventKind::Access(_) => None,
            // What is made is then written, but for links and directories.
            EventKind::Create(CreateKind::File) if event.paths.iter().any(|path| is_file(path)) => {
                Some(Notice::FileBeingWritten)
            }
            EventKind::Modify(ModifyKind::Data(_)) => Some(Notice::FileBeingWritten),
            _ => Some(Notice::FileChanged),
        });
    }
    if kinds.iter().any(|kind| kind.cgroups) {
        notices.extend(match event.kind {
            EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => Some(Notice::CgroupsChanged),
            // Files of cgroups change all the time.
            _ => None,
        });
    }
    notices
}

fn identity(path: &Path) -> Option<Identity> {
    let directory = fs::metadata(path).ok()?;
    Some((directory.ino(), directory.created().ok()))
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        sync::mpsc::{self, Receiver},
        time::Duration,
    };

    use super::*;

    /// Everything told until nothing more is for a while.
    fn told(receiver: &Receiver<Notice>) -> Vec<Notice> {
        std::iter::from_fn(|| receiver.recv_timeout(Duration::from_millis(300)).ok()).collect()
    }

    #[test]
    fn a_file_counts_as_changed_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(dir.path()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let mut watch = Watch::new(move |notice| sender.send(notice).unwrap_or(())).unwrap();
        let (files, none) = ([place.clone()].into(), BTreeSet::new());
        assert!(watch.set(&files, &none).unwrap());
        assert!(!watch.set(&files, &none).unwrap(), "it is watched already");

        fs::write(place.join("table"), "written in place").unwrap();
        let all = told(&receiver);
        assert_eq!(all.last(), Some(&Notice::FileChanged), "{all:?}");
        let changed = all.iter().filter(|notice| **notice == Notice::FileChanged).count();
        assert_eq!(changed, 1, "{all:?}");

        fs::rename(place.join("table"), place.join("other")).unwrap();
        assert!(told(&receiver).contains(&Notice::FileChanged));
        symlink("other", place.join("table")).unwrap();
        assert!(told(&receiver).contains(&Notice::FileChanged));
        fs::read(place.join("table")).unwrap();
        assert_eq!(told(&receiver), []);

        // The directory is replaced by another one.
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        told(&receiver);
        assert!(watch.set(&files, &none).unwrap());
        fs::write(place.join("table"), "").unwrap();
        assert!(told(&receiver).contains(&Notice::FileChanged));
    }

    #[test]
    fn of_cgroups_only_coming_and_going_counts() {
        let dir = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(dir.path()).unwrap();
        fs::write(place.join("cgroup.events"), "").unwrap();
        let (sender, receiver) = mpsc::channel();
        let mut watch = Watch::new(move |notice| sender.send(notice).unwrap_or(())).unwrap();
        watch.set(&BTreeSet::new(), &[place.clone()].into()).unwrap();
        fs::write(place.join("cgroup.events"), "populated 1").unwrap();
        assert_eq!(told(&receiver), []);
        fs::create_dir(place.join("shop")).unwrap();
        assert_eq!(told(&receiver), [Notice::CgroupsChanged]);
        fs::remove_dir(place.join("shop")).unwrap();
        assert_eq!(told(&receiver), [Notice::CgroupsChanged]);
    }
}
