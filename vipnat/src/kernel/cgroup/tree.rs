//! The cgroup v2 hierarchy as this process can see it, and the proof that it is all of it.
//!
//! That a path is not found means that there is no such cgroup only if the whole hierarchy is in view: a
//! mount point may be hidden by another mount, show a part only, or be that of a cgroup namespace. Mounts come
//! and go while we look. So each look goes down from a directory that proves to be the root, and says of
//! what was opened, not of a path, in which mount it is.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    mem::zeroed,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::{ffi::OsStringExt as _, fs::OpenOptionsExt as _},
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::{
        stat::Mode,
        statfs::{CGROUP2_SUPER_MAGIC, fstatfs},
    },
};

use vipnat_core::text::shown_name;

use super::by_id::{ById, Found};
use crate::kernel::error::{Attempt as _, Error, Result};

/// The inode number of the root of the hierarchy, and of no other cgroup (`kernfs_create_root` in
/// fs/kernfs/dir.c).
const ROOT: u64 = 1;

/// The inode number of the machine's cgroup namespace (`PROC_CGROUP_INIT_INO` in the kernel).
const MACHINES_NAMESPACE: &str = "cgroup:[4026531835]";

/// The whole cgroup v2 hierarchy, seen through one mount.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    mount: PathBuf,
    /// What is there.
    root: Status,
    /// The mounts in which a path means what it says: this one, and those of a part of it on itself.
    trusted: BTreeSet<u64>,
    /// Where cgroups were found by their ids.
    ids: Arc<ById>,
}

/// Why nothing can be said of what is in a part of the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unseen(String);

/// What a look at the hierarchy brings.
type Look<T> = std::result::Result<T, Unseen>;

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Unseen> for Error {
    fn from(Unseen(reason): Unseen) -> Self {
        Self::NotInView(reason)
    }
}

impl From<&Error> for Unseen {
    fn from(error: &Error) -> Self {
        Self(error.to_string())
    }
}

impl Tree {
    /// Finds a mount that proves to show all of the hierarchy. In a hybrid layout it is below
    /// /sys/fs/cgroup.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if there is none, with the reason for each.
    pub(crate) fn find() -> Result<Self> {
        let text = fs::read("/proc/self/mountinfo")
            .attempt(|| "read /proc/self/mountinfo, which says where cgroup v2 is".to_owned())?;
        let mounts = parse(&text);
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
        Err(Error::Unsupported(if reasons.is_empty() {
            "cgroup v2 is not mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup".to_owned()
        } else {
            format!(
                "no mount shows the whole cgroup v2 hierarchy, so which cgroups there are can't be \
                 told: {}{}",
                reasons.join("; "),
                Self::namespace_hint()
            )
        }))
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

    /// A directory that stands for the hierarchy.
    #[cfg(test)]
    pub(crate) fn of_test(mount: &Path) -> Self {
        let root = seen(&open(mount).unwrap()).unwrap();
        Self { mount: mount.to_owned(), root, trusted: [root.mount].into(), ids: Arc::default() }
    }

    /// Where it is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// A whole path as one below the mount; `None` if it is not below it.
    pub(crate) fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.mount).ok()?;
        let upwards = below.components().any(|part| part == Component::ParentDir);
        (below != Path::new("") && !upwards).then_some(below)
    }

    /// What to do in a cgroup namespace that is not the machine's.
    pub(crate) fn namespace_hint() -> &'static str {
        let own = fs::read_link("/proc/self/ns/cgroup");
        if own.is_ok_and(|own| own != Path::new(MACHINES_NAMESPACE)) {
            "; this is a cgroup namespace: run vipnat in the machine's: nsenter --target 1 --cgroup \
             --mount vipnat …"
        } else {
            ""
        }
    }

    /// Whether that still shows it.
    pub(crate) fn is_current(&self) -> bool {
        self.root().is_ok()
    }

    /// Opens the root of the hierarchy.
    fn root(&self) -> Look<File> {
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

    /// Opens a cgroup; `None` if there is none, for certain.
    fn open(&self, below: &Path) -> Look<Option<(OwnedFd, Status)>> {
        let mut dir = OwnedFd::from(self.root()?);
        // Where no mount is on the way, one call is enough: it crosses none.
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(LOOK).resolve(resolve);
        let whole = if below == Path::new("") { Path::new(".") } else { below };
        match openat2(&dir, whole, how) {
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
        let (mut path, mut found) = (self.mount.clone(), self.root);
        for name in below {
            path.push(name);
            let opened = openat(&dir, name, LOOK, Mode::empty()).map_err(io::Error::from);
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

    /// The id of a cgroup, which is the inode number of its directory; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it can't be told whether there is one.
    pub(crate) fn id(&self, below: &Path) -> Look<Option<u64>> {
        Ok(self.open(below)?.map(|(_, seen)| seen.inode))
    }

    /// Where the cgroup with this id is.
    pub(crate) fn find_by_id(&self, id: u64) -> Found {
        self.ids.find(|| self.root().ok(), id, |below| self.id(below) == Ok(Some(id)))
    }

    /// Remembers that.
    pub(crate) fn remember(&self, id: u64, below: &Path) {
        self.ids.remember(id, below);
    }

    /// The names of the directories right below a cgroup; none if it is gone.
    ///
    /// # Errors
    ///
    /// If they can't be read.
    pub(crate) fn names(&self, below: &Path) -> Look<Vec<OsString>> {
        let Some((dir, _)) = self.open(below)? else {
            return Ok(Vec::new());
        };
        let read = || -> io::Result<_> {
            let mut names = Vec::new();
            // That very directory, whatever is mounted there by now.
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

fn hidden(path: &Path) -> Unseen {
    let path = shown_name(path);
    Unseen(format!("{path} is hidden by another mount; unmount that: umount {path}"))
}

fn unreadable(path: &Path, error: &io::Error) -> Unseen {
    Unseen(format!("cannot read {}: {error}", shown_name(path)))
}

/// A line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    device: Vec<u8>,
    /// The directory of the file system that it shows.
    root: PathBuf,
    point: PathBuf,
    kind: Vec<u8>,
}

impl Mount {
    /// The mounts of a part of it on itself, and it.
    fn parts<'a>(&'a self, mounts: &'a [Self]) -> impl Iterator<Item = &'a Self> {
        mounts.iter().filter(|other| {
            let part = other.root.strip_prefix(&self.root).unwrap_or(Path::new(""));
            other.device == self.device
                && self.point.join(part) == other.point
                && other.root.starts_with(&self.root)
        })
    }

    /// Why what is seen at its mount point is not the root of the hierarchy, if it is not.
    fn doubt(&self, mounts: &[Self], seen: io::Result<Status>, is_cgroup2: bool) -> Option<String> {
        let seen = match seen {
            Err(error) => return Some(format!("cannot be read: {error}")),
            Ok(seen) => seen,
        };
        if seen.mount != self.id {
            let above = mounts.iter().find(|mount| mount.id == seen.mount);
            let above = above.map(|mount| {
                let (kind, point) = (String::from_utf8_lossy(&mount.kind), mount.point.display());
                format!(" of type {kind}; unmount that: umount {point}")
            });
            return Some(format!("hidden by a mount{}", above.unwrap_or_default()));
        }
        if !is_cgroup2 {
            return Some("not a cgroup v2 file system".to_owned());
        }
        (seen.inode != ROOT).then(|| format!("shows a part only, {}", self.root.display()))
    }
}

/// How a directory is opened to be looked at. A link is not followed: no cgroup is one.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Asks for a number of the mount that is never given again (`STATX_MNT_ID_UNIQUE`, kernel 6.8).
const UNIQUE: libc::c_uint = 0x4000;

/// What was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    /// The file system, by its device number. Every hierarchy has its own.
    device: (u32, u32),
    /// The mount it is in. The kernel gives the number of one that went to the next that comes, unless it
    /// knows of unique ones.
    mount: u64,
    inode: u64,
    is_directory: bool,
}

/// Opens a directory by its whole path.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// What was opened, with the best number of its mount that the kernel has.
fn seen(opened: &impl AsFd) -> io::Result<Status> {
    status(opened, libc::STATX_MNT_ID | UNIQUE)
}

/// What was opened, with a number of its mount.
fn status(opened: &impl AsFd, number: libc::c_uint) -> io::Result<Status> {
    let mask = libc::STATX_TYPE | libc::STATX_INO | number;
    // SAFETY: plain data, for which zeroes are valid.
    let mut found: libc::statx = unsafe { zeroed() };
    let opened = opened.as_fd().as_raw_fd();
    // SAFETY: the path ends in a zero, and the kernel writes no more than this structure.
    let result =
        unsafe { libc::statx(opened, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernel 5.8.
    if found.stx_mask & number == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel names no mounts"));
    }
    let is_directory = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
    let device = (found.stx_dev_major, found.stx_dev_minor);
    Ok(Status { device, mount: found.stx_mnt_id, inode: found.stx_ino, is_directory })
}

/// The lines of /proc/self/mountinfo (`show_mountinfo` in fs/proc_namespace.c).
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?.to_owned();
    let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
    fields.find(|field| *field == b"-")?;
    let kind = fields.next()?.to_owned();
    Some(Mount { id, device, root, point, kind })
}

/// White space, backslashes and `#` are in octal there.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(plain).into()
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

#[cfg(test)]
mod tests {
    use nix::{
        mount::{MsFlags, mount, umount},
        sched::{CloneFlags, unshare},
    };

    use super::*;

    /// What `find` makes of mounts, each seen as its last line says: mount id and inode number there.
    fn first_proven(text: &str, seen: &[(u64, u64)]) -> std::result::Result<String, Vec<String>> {
        let mounts = parse(text.as_bytes());
        let cgroups = mounts.iter().filter(|mount| mount.kind == b"cgroup2");
        let mut doubts = Vec::new();
        for (of, (mount, inode)) in cgroups.zip(seen) {
            let seen = Status { device: (0, 38), mount: *mount, inode: *inode, is_directory: true };
            match of.doubt(&mounts, Ok(seen), true) {
                None => return Ok(of.point.display().to_string()),
                Some(doubt) => doubts.push(doubt),
            }
        }
        Err(doubts)
    }

    #[test]
    fn the_root_is_found_in_both_layouts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(first_proven(hybrid, &[(41, 1)]), Ok("/sys/fs/cgroup/unified".to_owned()));
        let odd = "7 1 0:9 / /a\\040b\\134 rw - cgroup2 none rw\n\n";
        assert_eq!(first_proven(odd, &[(7, 1)]), Ok("/a b\\".to_owned()));
        assert_eq!(
            first_proven("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n", &[]),
            Err(vec![])
        );
    }

    #[test]
    fn a_mount_that_is_hidden_or_shows_a_part_is_not_the_root() {
        let two = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                   42 41 0:40 / /sys/fs/cgroup rw - tmpfs none rw\n\
                   43 31 0:38 /shop.slice /srv/shop rw - cgroup2 cgroup2 rw\n\
                   44 31 0:38 / /run/cgroup2 rw - cgroup2 cgroup2 rw\n";
        let seen = [(42, 1), (43, 25), (44, 1)];
        assert_eq!(first_proven(two, &seen), Ok("/run/cgroup2".to_owned()));
        let doubts = first_proven(two, &seen[..2]).unwrap_err();
        assert_eq!(
            doubts,
            [
                "hidden by a mount of type tmpfs; unmount that: umount /sys/fs/cgroup",
                "shows a part only, /shop.slice"
            ]
        );
    }

    #[test]
    fn a_part_that_is_mounted_on_itself_still_means_what_it_says() {
        let text = "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n\
                    42 41 0:38 /a/b /cg/a/b ro - cgroup2 cgroup2 rw\n\
                    43 41 0:38 /a /cg/c rw - cgroup2 cgroup2 rw\n\
                    44 41 0:40 / /cg/d rw - tmpfs none rw\n";
        let mounts = parse(text.as_bytes());
        let parts: Vec<_> = mounts[0].parts(&mounts).map(|mount| mount.id).collect();
        assert_eq!(parts, [41, 42]);
    }

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
        // Nobody else is to see these mounts; only root can make them.
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
