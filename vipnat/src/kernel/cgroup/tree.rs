//! The cgroup v2 hierarchy as this process sees it, through a mount that shows all of it.
//!
//! A missing path proves that a cgroup does not exist only if the whole hierarchy is in view. Another mount
//! may hide the mount point. The mount may also show a part only, or a cgroup namespace. Mounts come and go
//! at any time. So each operation starts at a directory that proves to be the root. It asks the open
//! directory, not the path, which mount it is in.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OpenHow, ResolveFlag, openat, openat2},
    sys::{
        stat::Mode,
        statfs::{CGROUP2_SUPER_MAGIC, fstatfs},
    },
};

use super::{
    by_id::{ById, Found},
    opened::{LOOKUP, Status, open, seen, status},
    unseen::{Lookup, hidden, unreadable},
};
use crate::kernel::{
    error::{Attempt as _, MachineError, Result},
    mountinfo::{self, Mount},
};

/// The inode number of the machine's cgroup namespace (`PROC_CGROUP_INIT_INO` in the kernel).
const MACHINES_NAMESPACE: &str = "cgroup:[4026531835]";

/// The whole cgroup v2 hierarchy, seen through one mount.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    mount: PathBuf,
    /// The status of the root.
    root: Status,
    /// The mounts that leave the meaning of a path unchanged: this one, and those of its parts on themselves.
    trusted: BTreeSet<u64>,
    /// The paths of cgroups found before, by their ids.
    ids: Arc<ById>,
}

impl Tree {
    /// Finds a mount that proves to show the whole hierarchy. In a hybrid layout it is below /sys/fs/cgroup.
    ///
    /// # Errors
    ///
    /// [`MachineError`] if there is none, with the reason for each mount.
    pub(crate) fn find() -> Result<Self> {
        let mounts = mountinfo::read()
            .attempt(|| "read /proc/self/mountinfo, which says where cgroup v2 is".to_owned())?;
        let mut reasons = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.kind == b"cgroup2") {
            let looked = open(&mount.point)
                .and_then(|opened| Ok((status(&opened, libc::STATX_MNT_ID)?, opened)));
            let (seen, opened) = match looked {
                Ok((seen, opened)) => (Ok(seen), Some(opened)),
                Err(error) => (Err(error), None),
            };
            let magic = |opened| fstatfs(opened).map(|found| found.filesystem_type());
            let is_cgroup2 = opened.as_ref().is_some_and(|it| magic(it) == Ok(CGROUP2_SUPER_MAGIC));
            let doubt = match (mount.doubt(&mounts, seen, is_cgroup2), opened) {
                (None, Some(opened)) => match Self::at(mount, &mounts, &opened) {
                    Ok(tree) => return Ok(tree),
                    Err(error) => format!("cannot be read: {error}"),
                },
                (doubt, _) => doubt.unwrap_or_default(),
            };
            reasons.push(format!("{}: {doubt}", mount.point.display()));
        }
        Err(if reasons.is_empty() {
            MachineError::NoCgroup2.into()
        } else {
            MachineError::PartOfCgroup2 { reasons, hint: Self::namespace_hint() }.into()
        })
    }

    fn at(mount: &Mount, mounts: &[Mount], opened: &File) -> io::Result<Self> {
        let root = seen(opened)?;
        let part = |part: &Mount| {
            let opened = open(&part.point).ok()?;
            let is_it = status(&opened, libc::STATX_MNT_ID).ok()?.mount == part.id;
            seen(&opened).ok().filter(|_| is_it).map(|seen| seen.mount)
        };
        let mut trusted: BTreeSet<_> = mount.parts(mounts).filter_map(part).collect();
        trusted.insert(root.mount);
        Ok(Self { mount: mount.point.clone(), root, trusted, ids: Arc::default() })
    }

    /// A hierarchy made of ordinary directories.
    #[cfg(test)]
    pub(crate) fn of_test(mount: &Path) -> Self {
        let root = seen(&open(mount).unwrap()).unwrap();
        Self { mount: mount.to_owned(), root, trusted: [root.mount].into(), ids: Arc::default() }
    }

    /// The mount point.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// The part of a whole path below the mount; `None` if the path is not below it.
    pub(crate) fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.mount).ok()?;
        let upwards = below.components().any(|part| part == Component::ParentDir);
        (below != Path::new("") && !upwards).then_some(below)
    }

    /// How to reach the machine's cgroup namespace; empty if this process is in it.
    pub(crate) fn namespace_hint() -> &'static str {
        let own = fs::read_link("/proc/self/ns/cgroup");
        if own.is_ok_and(|own| own != Path::new(MACHINES_NAMESPACE)) {
            "; this is a cgroup namespace: run vipnat in the machine's: nsenter --target 1 --cgroup \
             --mount vipnat …"
        } else {
            ""
        }
    }

    /// Whether the mount point still shows the hierarchy.
    pub(crate) fn is_current(&self) -> bool {
        self.root().is_ok()
    }

    /// Opens the root of the hierarchy.
    pub(super) fn root(&self) -> Lookup<File> {
        let opened = open(&self.mount).and_then(|root| Ok((seen(&root)?, root)));
        match opened {
            Ok((seen, root)) if seen == self.root => Ok(root),
            Ok(_) => Err(hidden(&self.mount)),
            Err(error) => Err(unreadable(&self.mount, &error)),
        }
    }

    fn trusts(&self, seen: &Status) -> bool {
        seen.device == self.root.device && self.trusted.contains(&seen.mount)
    }

    /// Opens a cgroup, from the opened root; `None` if it certainly does not exist.
    pub(super) fn open_from(&self, root: &File, below: &Path) -> Lookup<Option<(OwnedFd, Status)>> {
        // One call is enough if no mount is on the path. This call crosses none.
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(LOOKUP).resolve(resolve);
        let whole = if below == Path::new("") { Path::new(".") } else { below };
        match openat2(root, whole, how) {
            Ok(found) => {
                let seen =
                    seen(&found).map_err(|error| unreadable(&self.mount.join(below), &error))?;
                return Ok(seen.is_directory.then_some((found, seen)));
            }
            Err(error) => {
                if let Ok(None) = present::<()>(Err(error.into())) {
                    return Ok(None);
                }
            }
        }
        let again = |error| unreadable(&self.mount, &error);
        let mut dir = OwnedFd::from(root.try_clone().map_err(again)?);
        let (mut path, mut found) = (self.mount.clone(), self.root);
        for name in below {
            path.push(name);
            let opened = openat(&dir, name, LOOKUP, Mode::empty()).map_err(io::Error::from);
            let opened = opened.and_then(|inner| Ok((seen(&inner)?, inner)));
            let Some((seen, inner)) = present(opened).map_err(|error| unreadable(&path, &error))?
            else {
                return Ok(None);
            };
            if !self.trusts(&seen) {
                return Err(hidden(&path));
            }
            if !seen.is_directory {
                return Ok(None);
            }
            (dir, found) = (inner, seen);
        }
        Ok(Some((dir, found)))
    }

    /// The id of a cgroup, which is the inode number of its directory; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// It is unknown whether the cgroup exists.
    pub(crate) fn id(&self, below: &Path) -> Lookup<Option<u64>> {
        self.id_from(&self.root()?, below)
    }

    /// The same, from the opened root.
    pub(super) fn id_from(&self, root: &File, below: &Path) -> Lookup<Option<u64>> {
        Ok(self.open_from(root, below)?.map(|(_, seen)| seen.inode))
    }

    /// Finds the cgroup with this id.
    pub(crate) fn find_by_id(&self, id: u64) -> Found {
        self.ids.find(|| self.root().ok(), id, |below| self.id(below) == Ok(Some(id)))
    }

    /// Records where a cgroup was found.
    pub(crate) fn remember(&self, id: u64, below: &Path) {
        self.ids.remember(id, below);
    }

    /// The names of a cgroup's children, sorted; none if it was removed.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub(crate) fn names(&self, below: &Path) -> Lookup<Vec<OsString>> {
        self.names_from(&self.root()?, below)
    }

    /// The same, from the opened root.
    pub(super) fn names_from(&self, root: &File, below: &Path) -> Lookup<Vec<OsString>> {
        let Some((dir, _)) = self.open_from(root, below)? else {
            return Ok(Vec::new());
        };
        let read = || -> io::Result<_> {
            let mut names = Vec::new();
            // Read the open directory: another mount may cover its path by now.
            for entry in fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.push(entry.file_name());
                }
            }
            Ok(names)
        };
        let unreadable = |error| unreadable(&self.mount.join(below), &error);
        let names = present(read()).map_err(unreadable)?;
        let mut names = names.unwrap_or_default();
        names.sort_unstable();
        Ok(names)
    }
}

/// `None` if the file does not exist, or was removed while it was read (a cgroup then returns ENODEV).
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

#[cfg(test)]
mod tests {
    use nix::{
        mount::{MsFlags, mount, umount},
        sched::{CloneFlags, unshare},
    };

    use super::*;

    #[test]
    fn a_mount_with_the_number_of_one_that_went_is_not_taken_for_it() {
        let mount = tempfile::tempdir().unwrap();
        let tree = Tree::of_test(mount.path());
        assert!(tree.trusts(&tree.root));
        let other = Status { device: (0, u32::MAX), ..tree.root };
        assert!(!tree.trusts(&other), "all else is the same, and so is a root's inode number");
        let tree = Tree { root: other, ..tree };
        assert!(!tree.is_current());
        assert!(tree.id(Path::new("a")).is_err(), "whatever is there, it is no cgroup");
        assert!(tree.names(Path::new("")).is_err());
    }

    #[test]
    fn what_is_not_in_a_mount_that_hides_a_part_may_be_below_it() {
        // In a mount namespace of its own, which only root can make.
        let alone = || unshare(CloneFlags::CLONE_NEWNS);
        let look = move || {
            if alone().is_err() {
                return;
            }
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let root = tempfile::tempdir().unwrap();
            let below = root.path().join("a");
            fs::create_dir_all(below.join("b/c")).unwrap();
            let tree = Tree::of_test(root.path());
            let paths = ["a/b", "a/b/c", "a/none", "a/none/c"].map(Path::new);
            let known = paths.map(|path| tree.id(path));
            assert!(known[..2].iter().all(|id| matches!(id, Ok(Some(_)))), "{known:?}");
            assert_eq!(known[2..], [Ok(None), Ok(None)]);
            for (point, inside) in [(&below, ""), (&below, "b"), (&root.path().to_owned(), "a")] {
                mount(Some("none"), point, Some("tmpfs"), MsFlags::empty(), none).unwrap();
                fs::create_dir_all(point.join(inside)).unwrap();
                let said = format!("{} is hidden by another mount", point.display());
                for path in paths {
                    let unseen = tree.id(path).unwrap_err().to_string();
                    assert!(unseen.starts_with(&said), "{unseen}");
                    let unseen = tree.names(path).unwrap_err().to_string();
                    assert!(unseen.starts_with(&said), "{unseen}");
                }
                umount(point).unwrap();
                assert_eq!(paths.map(|path| tree.id(path)), known);
            }
        };
        std::thread::spawn(look).join().unwrap();
    }
}
