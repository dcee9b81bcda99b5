//! Directories watched with inotify: those on the way to the table's file.
//!
//! These are `/` and `/etc` for most, in which everybody opens files all the time. So that is not among what the
//! kernel is asked to tell, and what it tells of others costs a lookup.

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

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// The file is written to, and not closed yet.
    FileBeingWritten,
    /// The file may be another one, or have been written.
    FileChanged,
    /// More happened than could be told, or watching failed: look at everything again.
    Unsure,
}

/// A set of watched directories.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Watches,
    known: Arc<Mutex<Known>>,
}

/// Shared with the thread that reads events.
#[derive(Debug, Default)]
struct Known {
    /// The entries that count.
    files: BTreeSet<PathBuf>,
    /// The watch of each directory.
    watched: HashMap<PathBuf, WatchDescriptor>,
    /// The paths of each that is watched, by the number of the watch: it may have several.
    paths: HashMap<i32, Vec<PathBuf>>,
}

impl Watch {
    /// Watches nothing yet. `tell` is called on a thread of its own.
    ///
    /// # Errors
    ///
    /// If there are too many users of inotify.
    pub(crate) fn new(tell: impl Fn(WatchEvent) + Send + 'static) -> io::Result<Self> {
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
                    let notices = lock(&shared).notices(&event);
                    notices.into_iter().for_each(&tell);
                }
                thread::sleep(pace.rest(Instant::now()));
            }
        });
        Ok(Self { watches, known })
    }

    /// Watches exactly these entries of directories from now on, as far as these exist. Returns whether there
    /// is a directory that was not watched before: what happened in it until now was not told.
    ///
    /// # Errors
    ///
    /// If the kernel allows no more watches (`fs.inotify.max_user_watches`).
    pub(crate) fn set(&mut self, files: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::ONLYDIR;
        // With the lock, so that no event comes before it is known whose it is.
        let mut known = lock(&self.known);
        known.files.clone_from(files);
        let before = std::mem::take(&mut known.watched);
        known.paths.clear();
        let (mut new, mut refused) = (false, None);
        for directory in files.iter().filter_map(|file| file.parent()).collect::<BTreeSet<_>>() {
            // The same directory has the same watch again.
            match self.watches.add(directory, mask) {
                Ok(watch) => {
                    new |= before.get(directory) != Some(&watch);
                    let number = watch.get_watch_descriptor_id();
                    known.paths.entry(number).or_default().push(directory.to_owned());
                    known.watched.insert(directory.to_owned(), watch);
                }
                // The way to a file may lead through what may not be read, where little happens. One that is
                // missing is an entry of the directory above it.
                Err(error) if is_no_trouble(&error) => {}
                Err(error) => refused = Some(error),
            }
        }
        let old: HashSet<_> = before.into_values().collect();
        for watch in old {
            if !known.paths.contains_key(&watch.get_watch_descriptor_id()) {
                // The kernel has forgotten it, if the directory is gone.
                let _ = self.watches.remove(watch);
            }
        }
        refused.map_or(Ok(new), Err)
    }
}

impl Known {
    /// What an event means, if anything.
    fn notices(&mut self, event: &Event<&OsStr>) -> Vec<WatchEvent> {
        let is = |mask| event.mask.intersects(mask);
        if is(EventMask::Q_OVERFLOW | EventMask::UNMOUNT) {
            return vec![WatchEvent::Unsure];
        }
        if is(EventMask::IGNORED) {
            // It is gone, which the one above it tells. One in its place is another one.
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
        let notice = |path: PathBuf| {
            // What is made is then written, but for links and directories.
            let begins = is(EventMask::CREATE) && !is(EventMask::ISDIR) && is_new(&path);
            if begins || is(EventMask::MODIFY) {
                WatchEvent::FileBeingWritten
            } else {
                WatchEvent::FileChanged
            }
        };
        ours.map(notice).collect()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_no_trouble(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};

    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
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
    fn told(receiver: &Receiver<WatchEvent>) -> Vec<WatchEvent> {
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
        assert_eq!(all.last(), Some(&WatchEvent::FileChanged), "{all:?}");
        let changed = all.iter().filter(|notice| **notice == WatchEvent::FileChanged).count();
        assert_eq!(changed, 1, "{all:?}");

        fs::rename(place.join("table"), place.join("other")).unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
        symlink("other", place.join("table")).unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
        fs::read(place.join("table")).unwrap();
        fs::write(place.join("neighbour"), "written all the time").unwrap();
        assert_eq!(told(&receiver), []);

        // The directory is replaced by another one.
        fs::remove_dir_all(&place).unwrap();
        fs::create_dir(&place).unwrap();
        told(&receiver);
        assert!(watch.set(&files).unwrap());
        fs::write(place.join("table"), "").unwrap();
        assert!(told(&receiver).contains(&WatchEvent::FileChanged));
    }

    /// Anybody may open what everybody may read, as often as they like.
    #[test]
    fn what_others_do_beside_the_file_is_not_told_and_opening_is_not_even_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(dir.path()).unwrap();
        for name in ["table", "other"] {
            fs::write(place.join(name), "").unwrap();
        }
        let (sender, receiver) = mpsc::channel();
        let mut watch = Watch::new(move |notice| sender.send(notice).unwrap_or(())).unwrap();
        watch.set(&[place.join("table")].into()).unwrap();
        // More than the kernel keeps.
        for _ in 0..20_000 {
            fs::read(place.join("table")).unwrap();
        }
        for _ in 0..100 {
            fs::write(place.join("other"), "").unwrap();
        }
        assert_eq!(told(&receiver), []);
    }
}
