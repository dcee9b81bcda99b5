//! Directories watched with inotify: those on the way to the table's file.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
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
    /// The file is written to, and not closed yet.
    FileBeingWritten,
    /// The file may be another one, or have been written.
    FileChanged,
    /// More happened than could be told, or watching failed: look at everything again.
    Unsure,
}

/// A set of watched directories.
pub struct Watch {
    watcher: RecommendedWatcher,
    /// What counts in them; shared with the thread that receives events.
    counts: Arc<Mutex<Counts>>,
    /// Which directory each path was: one that was replaced is watched no more.
    watched: HashMap<PathBuf, Identity>,
}

/// Inode number and time of birth, since numbers are given again.
type Identity = (u64, Option<SystemTime>);

/// What counts.
#[derive(Default)]
struct Counts {
    /// These entries.
    files: BTreeSet<PathBuf>,
    /// What was removed or renamed since: the library forgets the watches in it.
    gone: Vec<PathBuf>,
}

impl Watch {
    /// Watches nothing yet. `tell` is called on a thread of its own.
    ///
    /// # Errors
    ///
    /// If there are too many users of inotify.
    pub fn new(tell: impl Fn(Notice) + Send + 'static) -> notify::Result<Self> {
        let counts: Arc<Mutex<Counts>> = Arc::default();
        let known = Arc::clone(&counts);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.notices(event).into_iter().for_each(&tell);
        })?;
        Ok(Self { watcher, counts, watched: HashMap::new() })
    }

    /// Watches exactly these entries of directories from now on, as far as these exist. Returns whether there
    /// is a directory that was not watched before: what happened in it until now was not told.
    ///
    /// # Errors
    ///
    /// If the kernel allows no more watches (`fs.inotify.max_user_watches`).
    pub fn set(&mut self, files: &BTreeSet<PathBuf>) -> notify::Result<bool> {
        let directories = files.iter().filter_map(|file| file.parent());
        let wanted: HashMap<_, _> =
            directories.filter_map(|path| Some((path.to_owned(), identity(path)?))).collect();
        let counts = Counts { files: files.clone(), gone: Vec::new() };
        let mut known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = std::mem::replace(&mut *known, counts).gone;
        drop(known);

        let old: Vec<_> = self.watched.keys().cloned().collect();
        for path in old {
            let lost = gone.iter().any(|gone| path.starts_with(gone));
            if lost || self.watched.get(&path) != wanted.get(&path) {
                self.watched.remove(&path);
                // The kernel may have forgotten it already.
                let _ = self.watcher.unwatch(&path);
            }
        }
        let mut new = false;
        let mut refused = None;
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
                // The way to a file may lead through what may not be read, where little happens.
                Err(error) if is_forbidden(&error) => {}
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(new), Err)
    }
}

impl Counts {
    /// What an event means, if anything.
    fn notices(&mut self, event: notify::Result<Event>) -> Vec<Notice> {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => return vec![Notice::Unsure],
        };
        let Self { files, gone } = self;
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
            let leads = |path: &PathBuf| files.iter().any(|watched| watched.starts_with(path));
            gone.extend(event.paths.iter().filter(|path| leads(path)).cloned());
        }
        let mut notices = Vec::new();
        if event.paths.iter().any(|path| files.contains(path)) {
            notices.extend(match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                    Some(Notice::FileChanged)
                }
                EventKind::Access(_) => None,
                // What is made is then written, but for links and directories.
                EventKind::Create(CreateKind::File)
                    if event.paths.iter().any(|path| is_new(path)) =>
                {
                    Some(Notice::FileBeingWritten)
                }
                EventKind::Modify(ModifyKind::Data(_)) => Some(Notice::FileBeingWritten),
                _ => Some(Notice::FileChanged),
            });
        }
        notices
    }
}

fn is_forbidden(error: &notify::Error) -> bool {
    matches!(&error.kind, notify::ErrorKind::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

fn identity(path: &Path) -> Option<Identity> {
    let directory = fs::metadata(path).ok()?;
    Some((directory.ino(), directory.created().ok()))
}

/// Whether this is a file that was just made, not a link to one.
fn is_new(path: &Path) -> bool {
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
        let files = [place.join("table")].into();
        assert!(watch.set(&files).unwrap());
        assert!(!watch.set(&files).unwrap(), "it is watched already");

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
        fs::write(place.join("neighbour"), "written all the time").unwrap();
        assert_eq!(told(&receiver), []);

        // The directory is replaced by another one.
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        told(&receiver);
        assert!(watch.set(&files).unwrap());
        fs::write(place.join("table"), "").unwrap();
        assert!(told(&receiver).contains(&Notice::FileChanged));
    }
}
