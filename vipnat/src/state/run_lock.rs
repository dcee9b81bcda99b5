//! Which `vipnat run` keeps a state, so that no other command works against it unawares.

use crate::state::run_dir;
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

/// Held as long as a state is kept. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct RunLock {
    _lock: Flock<File>,
    file: PathBuf,
}

/// The extension of the file.
pub(crate) const FILE: &str = "run";

/// For how long [`RunLock::holder`] may stand in the way of [`RunLock::claim`].
const PATIENCE: Duration = Duration::from_millis(200);

impl RunLock {
    /// Keeps a state as `source` says. `Err` of the outer kind: system calls; of the inner kind: who
    /// keeps it already.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub(crate) fn claim(state: &Path, source: &str) -> io::Result<Result<Self, String>> {
        let file = file(state);
        run_dir::directory()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut open = options.open(&file)?;
            match Flock::lock(open.try_clone()?, FlockArg::LockExclusiveNonblock) {
                // Whoever had the lock has removed the file.
                Ok(_) if !is_at(&open, &file) => {}
                Ok(lock) => {
                    open.set_len(0)?;
                    let text = format!("process {}, as {source} says", process::id());
                    open.write_all(text.as_bytes())?;
                    return Ok(Ok(Self { _lock: lock, file }));
                }
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err((_, Errno::EWOULDBLOCK)) => return Ok(Err(holder_in(&mut open))),
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }

    /// Who keeps a state, and as what says; `None` if nobody does.
    ///
    /// # Errors
    ///
    /// If that can't be told.
    pub(crate) fn holder(state: &Path) -> io::Result<Option<String>> {
        let mut open = match File::open(file(state)) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It is for root alone, as the state is: who may not read it can't change that either.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && !Uid::effective().is_root() =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match Flock::lock(open.try_clone()?, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((_, Errno::EWOULDBLOCK)) => Ok(Some(holder_in(&mut open))),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Under the lock; whoever waits for it finds that its file is gone, and makes another.
        let _ = fs::remove_file(&self.file);
    }
}

/// Whether a path leads to an open file.
fn is_at(open: &File, path: &Path) -> bool {
    let id = |file: Metadata| (file.dev(), file.ino());
    open.metadata().is_ok_and(|open| fs::metadata(path).is_ok_and(|there| id(there) == id(open)))
}

fn holder_in(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() { text } else { "another process".to_owned() }
}

fn file(state: &Path) -> PathBuf {
    run_dir::beside(state, FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_keeps_a_state_and_others_are_told_who() {
        let state = PathBuf::from(format!("/test/of/vipnat/{}", process::id()));
        assert_eq!(RunLock::holder(&state).unwrap(), None);
        let Ok(Ok(running)) = RunLock::claim(&state, "/etc/table") else {
            eprintln!("NOT RUN: needs to write to {}", run_dir::DIRECTORY);
            return;
        };
        let who = format!("process {}, as /etc/table says", process::id());
        assert_eq!(RunLock::holder(&state).unwrap().as_ref(), Some(&who));
        assert_eq!(RunLock::claim(&state, "/etc/other").unwrap().unwrap_err(), who);
        drop(running);
        assert_eq!(RunLock::holder(&state).unwrap(), None);
        drop(RunLock::claim(&state, "/etc/other").unwrap().unwrap());
        assert!(!file(&state).exists());
    }
}
