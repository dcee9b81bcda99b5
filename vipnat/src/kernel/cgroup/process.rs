//! Finds the cgroup of a process, and moves this process into one.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process,
};

use crate::kernel::{
    cgroup::tree::Tree,
    error::{Attempt as _, Error, Result},
};
use vipnat_core::text::shown_name;

/// The cgroup of a process, as a whole path.
///
/// The path in `/proc/PID/cgroup` is relative to the reader's cgroup namespace. The mount may show another
/// one. So the cgroup's own list of processes has to confirm it.
///
/// # Errors
///
/// [`Error::Refused`] if there is no such process, or no cgroup in view lists it.
pub(crate) fn of_process(tree: &Tree, pid: u32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read(&file)
        .map_err(|error| Error::Refused(format!("there is no process {pid} ({file}: {error})")))?;
    let below = below(&text).ok_or_else(|| {
        Error::Refused(format!(
            "process {pid} is in no cgroup v2 that can be seen from here ({file}){}",
            Tree::namespace_hint()
        ))
    })?;
    let path = tree.mount().join(below);
    if !tree.id(below).is_ok_and(|id| id.is_some()) || !holds(&path, pid) {
        return Err(Error::Refused(format!(
            "process {pid} is not in the cgroup {}, although {file} says so: it moved, or cgroups or \
             processes are seen from another namespace here{}",
            shown_name(path),
            Tree::namespace_hint()
        )));
    }
    Ok(path)
}

/// Moves this process into a cgroup, given as a whole path.
///
/// # Errors
///
/// [`Error::Refused`] if the cgroup is not in view; system calls that fail.
pub(crate) fn enter(tree: &Tree, path: &Path) -> Result<()> {
    let refused =
        |why: String| Err(Error::Refused(format!("cannot enter {}: {why}", shown_name(path))));
    let Some(below) = tree.below(path) else {
        return refused(format!(
            "it is not below the cgroup v2 mount {}",
            shown_name(tree.mount())
        ));
    };
    match tree.id(below) {
        Ok(Some(_)) => {}
        Ok(None) => return refused("there is no such cgroup".to_owned()),
        Err(unseen) => return refused(unseen.to_string()),
    }
    // "0" stands for the process that writes it.
    let joined = OpenOptions::new()
        .write(true)
        .open(path.join("cgroup.procs"))
        .and_then(|mut procs| procs.write_all(b"0"));
    joined.attempt(|| format!("enter the cgroup {}", shown_name(path)))?;
    if holds(path, process::id()) {
        Ok(())
    } else {
        refused("this process is still not in it".to_owned())
    }
}

/// The path below the root, from the text of `/proc/PID/cgroup`. The line of the v2 hierarchy has number 0
/// and no controllers (`cgroups(7)`).
fn below(text: &[u8]) -> Option<&Path> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::/"))?;
    (!path.starts_with(b"..")).then(|| Path::new(OsStr::from_bytes(path)))
}

/// Whether a cgroup lists the first thread of this process. A threaded cgroup refuses to read its
/// `cgroup.procs`, so this reads `cgroup.threads`.
fn holds(cgroup: &Path, pid: u32) -> bool {
    let threads = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default();
    threads.lines().any(|thread| thread.parse() == Ok(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_v2_hierarchy_names_the_cgroup() {
        let hybrid = b"4:memory:/a\n0::/shop.slice/shop\n";
        assert_eq!(below(hybrid), Some(Path::new("shop.slice/shop")));
        let odd = b"0::/shop-\xff\n";
        assert_eq!(below(odd), Some(Path::new(OsStr::from_bytes(b"shop-\xff"))));
        assert_eq!(below(b"0::/\n"), Some(Path::new("")));
        assert_eq!(below(b"0::/../other\n"), None);
        assert_eq!(below(b"4:memory:/a\n"), None);
    }
}
