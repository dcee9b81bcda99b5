//! Names that show their owner, and the removal of leftovers of dead owners.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use nix::{
    errno::Errno,
    sys::{
        signal::kill,
        stat::{Mode, umask},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{cgroup_removal, mounts};

/// The prefix of the names of everything that tests make.
pub const TEST_PREFIX: &str = "vipnat-test";

/// A name with [`TEST_PREFIX`] that is unique in this process.
///
/// The first call sweeps. It also sets the umask, so that tests do not depend on the umask with which they
/// were started.
pub fn test_name() -> String {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        sweep(TEST_PREFIX);
        // Containers and other users have to read some of the files, as with the default umask.
        umask(Mode::from_bits_truncate(0o022));
    });
    unique(TEST_PREFIX)
}

/// A temporary directory with such a name.
pub(crate) fn temporary() -> TempDir {
    tempfile::Builder::new().prefix(&test_name()).rand_bytes(0).tempdir().expect("make a directory")
}

/// The name `<prefix>-<pid>-<n>`, unique in this process.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes leftovers of earlier runs with this prefix that SIGKILL ended.
///
/// These are cgroups with their processes, pinned state and temporary files. It leaves alone all that belongs
/// to a living process.
pub fn sweep(prefix: &str) {
    for path in abandoned(&mounts::cgroup2(), prefix) {
        if let Err(error) = cgroup_removal::remove(&path) {
            eprintln!("remove leftover {}: {error}", path.display());
        }
    }
    for directory in [PathBuf::from(mounts::BPFFS), env::temp_dir()] {
        for path in abandoned(&directory, prefix) {
            // Unlinking the pin of a link detaches the link. Another sweep may have removed the directory
            // first.
            if let Err(error) = fs::remove_dir_all(&path)
                && path.exists()
            {
                eprintln!("remove leftover {}: {error}", path.display());
            }
        }
    }
}

/// The entries of `directory` with a name of [`unique`], whose process is dead.
fn abandoned(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| owner(path, prefix).is_some_and(is_dead))
        .collect()
}

/// The process that made `<prefix>-<pid>-<n>`. `None` for any other name.
fn owner(path: &Path, prefix: &str) -> Option<Pid> {
    let (pid, n) =
        path.file_name()?.to_str()?.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?;
    n.parse::<u32>().ok()?;
    let pid = pid.parse().ok().filter(|&pid| pid > 0)?;
    Some(Pid::from_raw(pid))
}

fn is_dead(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_right_shape_have_an_owner() {
        let owner = |name| owner(Path::new(name), "p-x").map(Pid::as_raw);
        assert_eq!(owner("/sys/fs/cgroup/p-x-17-0"), Some(17));
        for other in
            ["p-x", "p-x-17", "p-x-17-", "p-x-17-a", "p-x-0-1", "p-x--1-1", "p-17-0", "q-p-x-17-0"]
        {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
