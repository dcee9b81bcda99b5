//! Files and directories that one process at a time has locked, with flock(2).
//!
//! The kernel unlocks them, however the process ends. A process that has the lock may remove the file. So
//! the next one checks with [`is_at`] that its path still leads to the locked file.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks an open file with a nonblocking kind of lock, and repeats that until `deadline`. Gives the file
/// back in the inner `Err` if another process has it locked all that time.
///
/// # Errors
///
/// System calls that fail.
pub(super) fn try_lock(
    mut file: File,
    kind: FlockArg,
    deadline: Instant,
) -> io::Result<Result<Flock<File>, File>> {
    loop {
        file = match Flock::lock(file, kind) {
            Ok(lock) => return Ok(Ok(lock)),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                thread::sleep(PAUSE);
                file
            }
            Err((file, Errno::EWOULDBLOCK)) => return Ok(Err(file)),
            Err((_, errno)) => return Err(errno.into()),
        };
    }
}

/// Whether a path leads to this open file.
pub(super) fn is_at(open: &File, path: &Path) -> bool {
    let id = |file: Metadata| (file.dev(), file.ino());
    open.metadata().is_ok_and(|open| fs::metadata(path).is_ok_and(|there| id(there) == id(open)))
}
