//! The lock of a `vipnat run` on the state that it manages. Other commands refuse to change that state.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

use super::{
    lock_file::{is_at, try_lock},
    run_dir,
};

/// The lock, held while this value lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _lock: Flock<File>,
    file: PathBuf,
}

/// The extension of the file.
pub(crate) const FILE: &str = "run";

/// The time for which [`RunLock::claim`] waits: [`RunLock::holder`] of another process locks the file for a
/// moment.
const PATIENCE: Duration = Duration::from_millis(200);

impl RunLock {
    /// Locks a state that this process manages as `source` says. The inner `Err` names the process that
    /// manages it already.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn claim(state: &Path, source: &str) -> io::Result<Result<Self, String>> {
        let file = file(state);
        run_dir::directory()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            match try_lock(options.open(&file)?, FlockArg::LockExclusiveNonblock, deadline)? {
                // The process that had the lock removed the file.
                Ok(lock) if !is_at(&lock, &file) => {}
                Ok(mut lock) => {
                    lock.set_len(0)?;
                    let text = format!("PID {}, from {source}", process::id());
                    lock.write_all(text.as_bytes())?;
                    return Ok(Ok(Self { _lock: lock, file }));
                }
                Err(mut open) => return Ok(Err(holder_in(&mut open))),
            }
        }
    }

    /// The process that manages a state, and its source; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read or locked.
    pub(crate) fn holder(state: &Path) -> io::Result<Option<String>> {
        let open = match File::open(file(state)) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Only root may read the file and change the state. So this user cannot change it either.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && !Uid::effective().is_root() =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let locked = try_lock(open, FlockArg::LockSharedNonblock, Instant::now())?;
        Ok(locked.err().map(|mut open| holder_in(&mut open)))
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Remove the file before the lock ends. A process that waits for the lock sees that, and makes a
        // new file.
        let _ = fs::remove_file(&self.file);
    }
}

/// The process that the file names.
fn holder_in(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_ok() && !text.is_empty() { text } else { "another process".to_owned() }
}

/// The lock file of a state directory.
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
        let who = format!("PID {}, from /etc/table", process::id());
        assert_eq!(RunLock::holder(&state).unwrap().as_ref(), Some(&who));
        assert_eq!(RunLock::claim(&state, "/etc/other").unwrap().unwrap_err(), who);
        drop(running);
        assert_eq!(RunLock::holder(&state).unwrap(), None);
        drop(RunLock::claim(&state, "/etc/other").unwrap().unwrap());
        assert!(!file(&state).exists());
    }
}
