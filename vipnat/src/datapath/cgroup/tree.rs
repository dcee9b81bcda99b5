//! The cgroup v2 hierarchy as this process can see it, and the proof that it is all of it.
//!
//! That a path is not found means that there is no such cgroup only if the whole hierarchy is in view: a
//! mount point may be hidden by another mount, show a part only, or be that of a cgroup namespace.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    fmt, fs, io,
    mem::zeroed,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    super::error::{Attempt as _, Error, Result},
    by_id::{ById, Found},
    present,
};

/// The inode number of the root of the hierarchy, and of no other cgroup (`kernfs_create_root` in
/// fs/kernfs/dir.c).
const ROOT: u64 = 1;

/// The inode number of the machine's cgroup namespace (`PROC_CGROUP_INIT_INO` in the kernel).
const MACHINES_NAMESPACE: &str = "cgroup:[4026531835]";

/// The whole cgroup v2 hierarchy, seen through one mount.
#[derive(Clone, Debug)]
pub struct Tree {
    mount: PathBuf,
    /// The mounts in which a path means what it says: this one, and those of a part of it on itself.
    trusted: BTreeSet<u64>,
    /// Where cgroups were found by their ids.
    ids: Arc<ById>,
}

/// Why nothing can be said of what is in a part of the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Unseen(String);

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
    pub fn find() -> Result<Self> {
        let text = fs::read("/proc/self/mountinfo")
            .attempt(|| "read /proc/self/mountinfo, which says where cgroup v2 is".to_owned())?;
        let mounts = parse(&text);
        let mut reasons = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.kind == b"cgroup2") {
            let magic = statfs(&mount.point).map(|found| found.filesystem_type());
            let is_cgroup2 = magic.is_ok_and(|magic| magic == CGROUP2_SUPER_MAGIC);
            match mount.doubt(&mounts, status(&mount.point), is_cgroup2) {
                None => return Ok(Self::at(mount, &mounts)),
                Some(reason) => reasons.push(format!("{}: {reason}", mount.point.display())),
            }
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

    fn at(root: &Mount, mounts: &[Mount]) -> Self {
        let onto_itself = |other: &&Mount| {
            let part = other.root.strip_prefix(&root.root).unwrap_or(Path::new(""));
            other.device == root.device
                && root.point.join(part) == other.point
                && other.root.starts_with(&root.root)
        };
        let trusted = mounts.iter().filter(onto_itself).map(|mount| mount.id).collect();
        Self { mount: root.point.clone(), trusted, ids: Arc::default() }
    }

    /// A directory that stands for the hierarchy.
    #[cfg(test)]
    pub(in super::super) fn of_test(mount: &Path) -> Self {
        let seen = status(mount).unwrap();
        Self { mount: mount.to_owned(), trusted: [seen.mount].into(), ids: Arc::default() }
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// A whole path as one below the mount; `None` if it is not below it.
    pub(in super::super) fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.mount).ok()?;
        let upwards = below.components().any(|part| part == Component::ParentDir);
        (below != Path::new("") && !upwards).then_some(below)
    }

    /// What to do in a cgroup namespace that is not the machine's.
    pub(super) fn namespace_hint() -> &'static str {
        let own = fs::read_link("/proc/self/ns/cgroup");
        if own.is_ok_and(|own| own != Path::new(MACHINES_NAMESPACE)) {
            "; this is a cgroup namespace: run vipnat in the machine's: nsenter --target 1 --cgroup \
             --mount vipnat …"
        } else {
            ""
        }
    }

    /// Whether that still shows it.
    pub(in super::super) fn is_current(&self) -> bool {
        status(&self.mount).is_ok_and(|seen| seen.inode == ROOT && self.trusts(&seen))
    }

    fn trusts(&self, seen: &Status) -> bool {
        self.trusted.contains(&seen.mount)
    }

    /// The id of a cgroup, which is the inode number of its directory; `None` if there is none. The one
    /// above it was seen already.
    ///
    /// # Errors
    ///
    /// If it can't be told whether there is one.
    pub(in super::super) fn id(&self, below: &Path) -> Look<Option<u64>> {
        let path = self.mount.join(below);
        let found = present(status(&path)).map_err(|error| unreadable(&path, &error))?;
        match found {
            Some(seen) if !self.trusts(&seen) => Err(Unseen(format!(
                "{0} is hidden by another mount; unmount that: umount {0}",
                path.display()
            ))),
            Some(seen) if seen.is_directory => Ok(Some(seen.inode)),
            _ => Ok(None),
        }
    }

    /// The same of a cgroup of which nothing was seen yet.
    ///
    /// # Errors
    ///
    /// If it can't be told whether there is one.
    pub(in super::super) fn id_of(&self, below: &Path) -> Look<Option<u64>> {
        let mut found = Some(ROOT);
        let outer: Vec<_> = below.ancestors().collect();
        for below in outer.into_iter().rev() {
            found = self.id(below)?;
            if found.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Where the cgroup with this id is.
    pub(super) fn find_by_id(&self, id: u64) -> Found {
        self.ids.find(&self.mount, id, |below| self.id_of(below) == Ok(Some(id)))
    }

    /// Remembers that.
    pub(super) fn remember(&self, id: u64, below: &Path) {
        self.ids.remember(id, below);
    }

    /// The names of the directories right below a cgroup; none if it is gone.
    ///
    /// # Errors
    ///
    /// If they can't be read.
    pub(in super::super) fn names(&self, below: &Path) -> Look<Vec<OsString>> {
        let path = self.mount.join(below);
        let read = || -> io::Result<_> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    names.push(entry.file_name());
                }
            }
            Ok(names)
        };
        let names = present(read()).map_err(|error| unreadable(&path, &error))?;
        let mut names = names.unwrap_or_default();
        names.sort_unstable();
        Ok(names)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Unseen {
    Unseen(format!("cannot read {}: {error}", path.display()))
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

/// What is seen at a path.
struct Status {
    /// The mount it is in.
    mount: u64,
    inode: u64,
    is_directory: bool,
}

/// What is at a path. A link is not followed: no cgroup is one.
fn status(path: &Path) -> io::Result<Status> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_MNT_ID;
    // SAFETY: plain data, for which zeroes are valid.
    let mut found: libc::statx = unsafe { zeroed() };
    // SAFETY: the path ends in a zero, and the kernel writes no more than this structure.
    let result = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, mask, &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Kernel 5.8.
    if found.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel names no mounts"));
    }
    let is_directory = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
    Ok(Status { mount: found.stx_mnt_id, inode: found.stx_ino, is_directory })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `find` makes of mounts, each seen as its last line says: mount id and inode number there.
    fn first_proven(text: &str, seen: &[(u64, u64)]) -> std::result::Result<String, Vec<String>> {
        let mounts = parse(text.as_bytes());
        let cgroups = mounts.iter().filter(|mount| mount.kind == b"cgroup2");
        let mut doubts = Vec::new();
        for (of, (mount, inode)) in cgroups.zip(seen) {
            let seen = Status { mount: *mount, inode: *inode, is_directory: true };
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
        assert_eq!(Tree::at(&mounts[0], &mounts).trusted, [41, 42].into());
    }
}
