//! The proof that a mount of cgroup v2 shows the whole hierarchy.

use std::{io, path::Path};

use super::opened::Status;
use crate::kernel::mountinfo::Mount;

/// The inode number of the root of the hierarchy. No other cgroup has it (`kernfs_create_root` in
/// fs/kernfs/dir.c).
const ROOT: u64 = 1;

impl Mount {
    /// This mount, and the mounts of its parts on themselves.
    pub(super) fn parts<'a>(&'a self, mounts: &'a [Self]) -> impl Iterator<Item = &'a Self> {
        mounts.iter().filter(|other| {
            let part = other.root.strip_prefix(&self.root).unwrap_or(Path::new(""));
            other.device == self.device
                && self.point.join(part) == other.point
                && other.root.starts_with(&self.root)
        })
    }

    /// Why its mount point does not show the root of the hierarchy; `None` if it does. `seen` is the status
    /// of the open mount point.
    pub(super) fn doubt(
        &self,
        mounts: &[Self],
        seen: io::Result<Status>,
        is_cgroup2: bool,
    ) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mountinfo::parse;

    /// The mount point of the first cgroup v2 mount that is proven to show the root, or the doubts about all.
    /// `seen` has the mount id and inode number at each mount point.
    fn first_proven(text: &str, seen: &[(u64, u64)]) -> Result<String, Vec<String>> {
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
}
