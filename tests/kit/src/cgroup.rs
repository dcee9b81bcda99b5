//! The cgroup of an app.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek},
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{leftovers, mounts, this_machine::patient};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup v2 of its own. `Drop` kills what still runs in it and in cgroups below it, and nothing
/// else, and removes them.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    relative: String,
}

impl Cgroup {
    /// A new cgroup right below the mount, named after this process.
    #[expect(clippy::new_without_default, reason = "makes a kernel object")]
    pub fn new() -> Self {
        Self::make(leftovers::test_name())
    }

    /// The same, with another prefix, whose leftovers the caller sweeps: see
    /// [`sweep`](crate::sweep).
    pub fn with_prefix(prefix: &str) -> Self {
        Self::make(leftovers::unique(prefix))
    }

    /// A new cgroup below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::make(format!("{}/{name}", self.relative))
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path below the cgroup v2 mount, as a table names it.
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// `cgroup.procs`: a process that writes "0" to it moves in.
    pub fn procs(&self) -> File {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
    }

    fn make(relative: String) -> Self {
        let path = mounts::cgroup2().join(&relative);
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("make cgroup {}: {error}", path.display()));
        Self { path, relative }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let Self { path, relative: _ } = self;
        if let Err(error) = remove(path) {
            let message = format!("remove cgroup {}: {error}", path.display());
            if thread::panicking() {
                eprintln!("{message}");
            } else {
                panic!("{message}");
            }
        }
    }
}

/// Ends every process of a cgroup and of those below it, and removes them all. One that is gone
/// already is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = fs::write(path.join("cgroup.kill"), "1")
        .and_then(|()| wait_until_empty(path))
        .and_then(|()| remove_tree(path));
    match removed {
        Err(_) if !path.exists() => Ok(()),
        other => other,
    }
}

/// The kernel announces changes of `cgroup.events` with POLLPRI, to those who have read it.
fn wait_until_empty(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + patient(PATIENCE);
    let mut events = File::open(path.join("cgroup.events"))?;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes survive SIGKILL"));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Only directories can be removed from a cgroup hierarchy; the files go with them.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
