//! Gives each state directory one path, no matter which path the user wrote.
//!
//! The files of a state directory in `/run/vipnat` are named after its path. Symbolic links, `..` and bind
//! mounts give one directory several paths. This file maps all of them to the same one.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use crate::kernel::{
    mountinfo::{self, Mount},
    pins::BPFFS,
};

/// The one path of a directory, which need not exist.
///
/// # Errors
///
/// A part of the path cannot be read.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = resolve(path)?;
    let Some(there) = path.ancestors().find(|there| there.is_dir()) else {
        return Ok(path);
    };
    let mount = mount_id(there)?;
    if mount_id(Path::new(BPFFS)).is_ok_and(|usual| usual == mount) {
        return Ok(path);
    }
    let device = fs::metadata(there)?.dev();
    let device = format!("{}:{}", major(device), minor(device));
    Ok(of_mounts(&mountinfo::read()?, mount, &device, &path).unwrap_or(path))
}

/// Resolves symbolic links and `..`, as far as the path exists.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut resolved = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            Component::Normal(name) => {
                let next = resolved.join(name);
                resolved = match fs::canonicalize(&next) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => next,
                    // Keep a part that cannot be read. The command itself will report the error.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => next,
                    other => other?,
                };
            }
            _ => {}
        }
    }
    Ok(resolved)
}

/// The number of the mount that a path is on.
fn mount_id(path: &Path) -> io::Result<u64> {
    let open = File::open(path)?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mount of an open directory"))
}

/// The path of the same directory on the usual mount, [`BPFFS`], or else on the first mount that shows it.
fn of_mounts(mounts: &[Mount], id: u64, device: &str, path: &Path) -> Option<PathBuf> {
    let all = || mounts.iter().filter(|mount| mount.device == device.as_bytes());
    let own = all().find(|mount| mount.id == id)?;
    let inside = own.root.join(path.strip_prefix(&own.point).ok()?);
    let names = || {
        all().filter_map(|Mount { root, point, .. }| {
            Some((point, below(point, inside.strip_prefix(root).ok()?)))
        })
    };
    let usual = names().find(|(point, _)| *point == Path::new(BPFFS));
    usual.or_else(|| names().next()).map(|(_, name)| name)
}

/// Joins two paths. `Path::join` with an empty one would end in a slash.
fn below(point: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { point.to_owned() } else { point.join(rest) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_dots_lead_to_one_path_whether_or_not_the_end_exists() {
        let directory = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(real.join("a/b")).unwrap();
        symlink(real.join("a"), real.join("link")).unwrap();
        symlink("gone", real.join("dangling")).unwrap();
        for (path, expected) in [
            ("a/b", "a/b"),
            ("link/b", "a/b"),
            ("link/../a/./b/", "a/b"),
            ("link/new", "a/new"),
            ("link/new/../other", "a/other"),
            ("dangling", "dangling"),
        ] {
            assert_eq!(resolve(&real.join(path)).unwrap(), real.join(expected), "{path}");
        }
    }

    #[test]
    fn of_several_mounts_the_usual_one_names_the_directory() {
        let mounts = b"30 20 0:25 / /sys/fs/bpf rw shared:9 - bpf bpf rw,mode=700\n\
                      40 20 0:25 / /mnt/with\\040space rw - bpf bpf rw\n\
                      41 20 0:25 /x /mnt/x rw - bpf bpf rw\n\
                      50 20 0:99 / /mnt/own rw - bpf bpf rw\n\
                      51 20 0:99 / /mnt/again rw - bpf bpf rw\n";
        let mounts = mountinfo::parse(mounts);
        let of = |id, device, path| of_mounts(&mounts, id, device, Path::new(path));
        let some = |path: &str| Some(PathBuf::from(path));
        assert_eq!(of(40, "0:25", "/mnt/with space/vipnat"), some("/sys/fs/bpf/vipnat"));
        assert_eq!(of(41, "0:25", "/mnt/x"), some("/sys/fs/bpf/x"));
        assert_eq!(of(41, "0:25", "/mnt/x/y"), some("/sys/fs/bpf/x/y"));
        assert_eq!(of(51, "0:99", "/mnt/again/vipnat"), some("/mnt/own/vipnat"));
        assert_eq!(of(50, "0:99", "/mnt/own"), some("/mnt/own"));
        assert_eq!(of(60, "0:98", "/mnt/own"), None);
    }
}
