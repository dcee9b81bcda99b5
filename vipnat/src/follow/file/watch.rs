//! Watches the directories on the way to the table's file with inotify.
//!
//! These usually include `/` and `/etc`, in which processes open files all the time. So the watch asks for no
//! events of opening, and an event of another file costs only a lookup.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

use crate::follow::pace::Pace;

/// The context of an error when a directory cannot be watched.
pub(crate) const WATCH_LIMIT: &str = "cannot watch more directories, so vipnat checks them every 30 seconds \
                                      instead (see fs.inotify.max_user_watches)";

/// The meaning of an event for the table's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchEvent {
    /// A writer has the file open.
    FileBeingWritten,
    /// The file was written and closed, or the path may lead to another file.
    FileChanged,
    /// Events were lost, or watching failed, so the file may have changed.
    Unsure,
}

/// The watched directories.
#[derive(Debug)]
pub(super) struct FileWatch {
    watches: Watches,
    known: Arc<Mutex<Known>>,
}

/// Shared with the thread that reads events.
#[derive(Debug, Default)]
struct Known {
    /// The entries that matter.
    files: BTreeSet<PathBuf>,
    /// The watch of each directory, by its path.
    watched: HashMap<PathBuf, WatchDescriptor>,
    /// The paths of each watched directory, which may have several, by the number of the watch.
    paths: HashMap<i32, Vec<PathBuf>>,
}

impl FileWatch {
    /// Watches nothing yet. A thread of its own calls `tell` for each event.
    ///
    /// # Errors
    ///
    /// If the limit of inotify instances is reached.
    pub(super) fn new(tell: impl Fn(WatchEvent) + Send + 'static) -> io::Result<Self> {
        let mut inotify = Inotify::init()?;
        let watches = inotify.watches();
        let known: Arc<Mutex<Known>> = Arc::default();
        let shared = Arc::clone(&known);
        thread::spawn(move || {
            let (mut buffer, mut pace) = ([0; 1 << 16], Pace::default());
            loop {
                let Ok(events) = inotify.read_events_blocking(&mut buffer) else {
                    return tell(WatchEvent::Unsure);
                };
                for event in events {
                    let meanings = lock(&shared).meanings(&event);
                    meanings.into_iter().for_each(&tell);
                }
                thread::sleep(pace.rest(Instant::now()));
            }
        });
        Ok(Self { watches, known })
    }

    /// Watches exactly these entries from now on, if their directories exist. Returns whether one of the
    /// directories was not watched before. Then nothing is known of what happened in it before.
    ///
    /// # Errors
    ///
    /// If the kernel allows no more watches (`fs.inotify.max_user_watches`).
    pub(super) fn set(&mut self, files: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::ONLYDIR;
        // The lock is held, so that no event is handled before its directory is known.
        let mut known = lock(&self.known);
        known.files.clone_from(files);
        let before = std::mem::take(&mut known.watched);
        known.paths.clear();
        let (mut new, mut refused) = (false, None);
        for directory in files.iter().filter_map(|file| file.parent()).collect::<BTreeSet<_>>() {
            // The kernel gives the same watch again for the same directory.
            match self.watches.add(directory, mask) {
                Ok(watch) => {
                    new |= before.get(directory) != Some(&watch);
                    let number = watch.get_watch_descriptor_id();
                    known.paths.entry(number).or_default().push(directory.to_owned());
                    known.watched.insert(directory.to_owned(), watch);
                }
                // A directory on the way may be unreadable, but such a directory rarely changes. A missing
                // one is itself an entry of its parent, which is watched.
                Err(error) if may_be_unwatched(&error) => {}
                Err(error) => refused = Some(error),
            }
        }
        let old: HashSet<_> = before.into_values().collect();
        for watch in old {
            if !known.paths.contains_key(&watch.get_watch_descriptor_id()) {
                // This fails if the directory is gone, since the kernel then removed the watch.
                let _ = self.watches.remove(watch);
            }
        }
        refused.map_or(Ok(new), Err)
    }
}

impl Known {
    /// The meanings of an event; none if it is of another file.
    fn meanings(&mut self, event: &Event<&OsStr>) -> Vec<WatchEvent> {
        let is = |mask| event.mask.intersects(mask);
        if is(EventMask::Q_OVERFLOW | EventMask::UNMOUNT) {
            return vec![WatchEvent::Unsure];
        }
        if is(EventMask::IGNORED) {
            // The directory is gone. The watch of its parent has an event for that.
            self.paths.remove(&event.wd.get_watch_descriptor_id());
            self.watched.retain(|_, watch| *watch != event.wd);
            return Vec::new();
        }
        let directories = self.paths.get(&event.wd.get_watch_descriptor_id());
        let Some((directories, name)) = directories.zip(event.name) else {
            return Vec::new();
        };
        let paths = directories.iter().map(|directory| directory.join(name));
        let ours = paths.filter(|path| self.files.contains(path));
        let meaning = |path: PathBuf| {
            // A new file is written next. A new link or directory is complete.
            let begins = is(EventMask::CREATE) && !is(EventMask::ISDIR) && is_new(&path);
            if begins || is(EventMask::MODIFY) {
                WatchEvent::FileBeingWritten
            } else {
                WatchEvent::FileChanged
            }
        };
        ours.map(meaning).collect()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn may_be_unwatched(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};

    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// Whether this is a file that was just made, not a symbolic or hard link to one.
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

    /// All events until no more come for a while.
    fn told(receiver: &Receiver<WatchEvent>) -> Vec<WatchEvent> {
        std::iter::from_fn(|| receiver.recv_timeout(Duration::from_millis(300)).ok()).collect()
    }

    #[test]
    fn a_file_counts_as_changed_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(dir.path()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let mut watch = FileWatch::new(move |event| sender.send(event).unwrap_or(())).unwrap();
        let files = [place.join("table")].into();
        assert!(watch.set(&files).unwrap());
        assert!(!watch.set(&files).unwrap(), "it is watched already");

        fs::write(place.join("table"), "written in place").unwrap();
        let all = told(&receiver);
        assert_eq!(all.last(), Some(&WatchEvent::FileChanged), "{all:?}");
        let changed = all.iter().filter(|event| **event == WatchEvent::FileChanged).count();
        assert_eq!(changed, 1, "{all:?}");

        fs::rename(place.join("table"), place.join("other")).unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
        symlink("other", place.join("table")).unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
        fs::read(place.join("table")).unwrap();
        fs::write(place.join("neighbour"), "written all the time").unwrap();
        assert_eq!(told(&receiver), []);

        // Another directory of the same name.
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        told(&receiver);
        assert!(watch.set(&files).unwrap());
        fs::write(place.join("table"), "").unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
    }

    /// Any user may open a readable file as often as they like.
    #[test]
    fn what_others_do_beside_the_file_is_not_told_and_opening_is_not_even_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(dir.path()).unwrap();
        for name in ["table", "other"] {
            fs::write(place.join(name), "").unwrap();
        }
        let (sender, receiver) = mpsc::channel();
        let mut watch = FileWatch::new(move |event| sender.send(event).unwrap_or(())).unwrap();
        watch.set(&[place.join("table")].into()).unwrap();
        // More events than the kernel queues.
        for _ in 0..20_000 {
            fs::read(place.join("table")).unwrap();
        }
        for _ in 0..100 {
            fs::write(place.join("other"), "").unwrap();
        }
        assert_eq!(told(&receiver), []);
    }
}
