//! Cgroups: where the v2 hierarchy is, and which cgroup has which id.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::error::{Error, Result};

/// Where cgroup v2 is mounted, which in a hybrid layout is below /sys/fs/cgroup.
///
/// # Errors
///
/// [`Error::Unsupported`] if it is nowhere.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    find_mount(&mounts).ok_or_else(|| {
        Error::Unsupported(
            "cgroup v2 is not mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
        )
    })
}

/// The first cgroup2 mount point in the format of `/proc/self/mounts`, which writes white space and
/// backslashes in octal (`show_mountinfo` in fs/proc_namespace.c).
fn find_mount(mounts: &str) -> Option<PathBuf> {
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let point = fields.find_map(|mut line| {
        let point = line.nth(1)?;
        (line.next()? == "cgroup2").then_some(point)
    })?;
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |point, (octal, plain)| point.replace(octal, plain));
    Some(plain.into())
}

/// The id of a cgroup, which is the inode number of its directory; `None` if there is none.
pub(super) fn id(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(directory) if directory.is_dir() => Ok(Some(directory.ino())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The paths below the mount of all cgroups, by id.
pub(super) fn paths_by_id(mount: &Path) -> HashMap<u64, PathBuf> {
    let mut paths = HashMap::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(below) = rest.pop() {
        // A cgroup may go while we look; the others are still worth finding.
        for entry in fs::read_dir(mount.join(&below)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = below.join(entry.file_name());
                paths.insert(entry.ino(), path.clone());
                rest.push(path);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_in_both_layouts() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(find_mount(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(find_mount("none /a\\040b cgroup2 rw 0 0\n"), Some("/a b".into()));
        assert_eq!(find_mount("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\n"), None);
    }
}
