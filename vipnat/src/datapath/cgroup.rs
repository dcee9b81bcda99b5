//! Cgroups: where the v2 hierarchy is, and which cgroup has which id.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::error::{Attempt as _, Error, Result};
use crate::table::{Cgroups, Component};

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

/// The cgroup of a process, as a whole path.
///
/// # Errors
///
/// [`Error::Refused`] if there is no such process, or it is in no cgroup below the mount.
pub fn of_process(mount: &Path, pid: u32) -> Result<PathBuf> {
    let file = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&file)
        .map_err(|error| Error::Refused(format!("there is no process {pid} ({file}: {error})")))?;
    // The v2 hierarchy is number 0 and has no controllers in its line (`cgroups(7)`).
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    match path {
        Some(path) if !path.starts_with("..") => Ok(mount.join(path)),
        _ => Err(Error::Refused(format!(
            "process {pid} is in no cgroup v2 that can be seen from here ({file})"
        ))),
    }
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
    let found = present(fs::metadata(path))?.filter(fs::Metadata::is_dir);
    Ok(found.map(|directory| directory.ino()))
}

/// The cgroups that a table means, by id: where each is below the mount. `visit` is told of every
/// directory before it is looked into; in one of these appears what may match later.
pub(super) fn find(
    mount: &Path,
    cgroups: &Cgroups,
    mut visit: impl FnMut(&Path),
) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut level = vec![PathBuf::new()];
    for component in cgroups.components() {
        let mut next = Vec::new();
        for below in level {
            visit(&mount.join(&below));
            match component {
                Component::Name(name) => next.push(below.join(name)),
                Component::Pattern(pattern) => {
                    let names = present(child_names(&mount.join(&below)))?.unwrap_or_default();
                    let matching = names.into_iter().filter(|name| pattern.matches(name));
                    next.extend(matching.map(|name| below.join(name)));
                }
            }
        }
        level = Vec::new();
        for below in next {
            if id(&mount.join(&below))?.is_some() {
                level.push(below);
            }
        }
    }
    let mut found = BTreeMap::new();
    for below in level {
        if let Some(id) = id(&mount.join(&below))? {
            found.insert(id, below);
        }
    }
    Ok(found)
}

/// The names of the cgroups right below one.
pub(super) fn child_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `None` for what is not there, or went while it was read, which a cgroup calls ENODEV.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// The paths below the mount of all cgroups, by id.
///
/// # Errors
///
/// If a part of the hierarchy can't be read: what is in it must not be taken for gone.
pub(super) fn paths_by_id(mount: &Path) -> Result<HashMap<u64, PathBuf>> {
    let mut paths = HashMap::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(below) = rest.pop() {
        // A cgroup may go while we look; the others are still worth finding.
        let names = present(child_names(&mount.join(&below)))
            .attempt(|| format!("read the cgroup {}", mount.join(&below).display()))?;
        for name in names.unwrap_or_default() {
            let path = below.join(name);
            if let Some(id) =
                id(&mount.join(&path)).attempt(|| format!("read {}", path.display()))?
            {
                paths.insert(id, path.clone());
                rest.push(path);
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_what_is_there_and_where_to_look_later() {
        let mount = tempfile::tempdir().unwrap();
        for path in ["lxc/shop-1", "lxc/shop-2/inner", "lxc/blog", "other/shop-3"] {
            fs::create_dir_all(mount.path().join(path)).unwrap();
        }
        fs::write(mount.path().join("lxc/shop-file"), "").unwrap();
        let look = |text: &str| {
            let table = format!("[apps.a]\ncgroup = \"{text}\"");
            let table = crate::table::Table::parse(table.as_bytes(), "table", mount.path());
            let cgroups = table.unwrap().apps["a"].cgroup.clone().unwrap();
            let mut visited = Vec::new();
            let found = find(mount.path(), &cgroups, |path| {
                visited.push(path.strip_prefix(mount.path()).unwrap().display().to_string());
            });
            let mut found: Vec<_> =
                found.unwrap().into_values().map(|path| path.display().to_string()).collect();
            found.sort();
            (found.join(" "), visited.join(" "))
        };
        let pair = |found: &str, visited: &str| (found.to_owned(), visited.to_owned());
        assert_eq!(look("lxc/shop-*"), pair("lxc/shop-1 lxc/shop-2", " lxc"));
        assert_eq!(look("*/shop-?"), pair("lxc/shop-1 lxc/shop-2 other/shop-3", " lxc other"));
        assert_eq!(
            look("lxc/*/inner"),
            pair("lxc/shop-2/inner", " lxc lxc/blog lxc/shop-1 lxc/shop-2")
        );
        assert_eq!(look("lxc/blog"), pair("lxc/blog", " lxc"));
        assert_eq!(look("lxc/none"), pair("", " lxc"));
        assert_eq!(look("none/x/y"), pair("", ""));
    }

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
