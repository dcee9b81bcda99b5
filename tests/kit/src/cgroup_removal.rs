//! Removes a cgroup, with its processes and the cgroups below it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::this_machine::patient;

/// Time limit for a killed process to disappear.
const PATIENCE: Duration = Duration::from_secs(10);
/// Kills all processes of a cgroup and of the cgroups below it, and removes these cgroups. Succeeds if the
/// cgroup is gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = fs::write(path.join("cgroup.kill"), "1")
        .and_then(|()| wait_until_empty(path))
        .and_then(|()| remove_tree(path));
    match removed {
        Err(_) if !path.exists() => Ok(()),
        other => other,
    }
}

/// Waits until no process is left. The kernel announces changes of `cgroup.events` with POLLPRI, to processes
/// that have read it.
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

/// Only directories can be removed from a cgroup hierarchy. The kernel removes their files with them.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
