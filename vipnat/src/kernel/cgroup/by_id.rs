//! Finds a cgroup by its id without a walk through the whole hierarchy.
//!
//! The id of a cgroup is also a file handle of its directory (`kernfs_fh_to_dentry` in fs/kernfs/mount.c,
//! kernel 5.5). Opening a handle needs `CAP_DAC_READ_SEARCH`, which the service does not have. But nothing
//! can rename a cgroup, so it stays where it was found until it is removed. Only a cgroup that was attached
//! later needs a walk.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The type of a file handle that is a kernfs id (`FILEID_KERNFS` in include/linux/exportfs.h).
const FILEID_KERNFS: libc::c_int = 0xfe;

/// The result of a search by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The cgroup is at this path below the mount.
    At(PathBuf),
    /// The kernel has no cgroup with this id.
    Nowhere,
    /// Only a walk can find it.
    Unknown,
}

/// The cgroups found so far, by id.
#[derive(Debug, Default)]
pub(crate) struct ById {
    known: Mutex<HashMap<u64, PathBuf>>,
    /// Whether this process may not open handles.
    walks: AtomicBool,
}

/// `struct file_handle` with an id as the handle.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: [u8; 8],
}

impl ById {
    /// Finds a cgroup. `root` opens the root of the hierarchy, if it is in view. `is_at` checks whether the
    /// cgroup is at a path below it.
    pub(crate) fn find(
        &self,
        root: impl FnOnce() -> Option<File>,
        id: u64,
        is_at: impl Fn(&Path) -> bool,
    ) -> Found {
        let known = self.known().get(&id).cloned();
        if let Some(below) = known {
            if is_at(&below) {
                return Found::At(below);
            }
            self.known().remove(&id);
        }
        if self.walks.load(Relaxed) {
            return Found::Unknown;
        }
        let Some(root) = root() else {
            return Found::Unknown;
        };
        match by_handle(&root, id) {
            Ok(Some(below)) if is_at(&below) => {
                self.known().insert(id, below.clone());
                Found::At(below)
            }
            // The path is hidden, or changed meanwhile: this proves nothing.
            Ok(Some(_)) => Found::Unknown,
            Ok(None) => Found::Nowhere,
            Err(_) => {
                self.walks.store(true, Relaxed);
                Found::Unknown
            }
        }
    }

    /// Records where a cgroup was found.
    pub(crate) fn remember(&self, id: u64, below: &Path) {
        self.known().insert(id, below.to_owned());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, PathBuf>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a cgroup below the root; `None` if no cgroup has this id.
fn by_handle(mount: &File, id: u64) -> io::Result<Option<PathBuf>> {
    let Some(found) = open_by_handle(mount, id)? else {
        // That counts only if the kernel does find the root, which certainly exists.
        let root = open_by_handle(mount, mount.metadata()?.ino())?;
        return root.map(|_| None).ok_or_else(|| io::ErrorKind::Unsupported.into());
    };
    let path = |fd: libc::c_int| fs::read_link(format!("/proc/self/fd/{fd}"));
    let (whole, mount) = (path(found.as_raw_fd())?, path(mount.as_raw_fd())?);
    let below = whole.strip_prefix(mount).map_err(|_| io::ErrorKind::NotFound)?;
    Ok(Some(below.to_owned()))
}

/// Opens a cgroup; `None` if the kernel has none with this id.
fn open_by_handle(mount: &File, id: u64) -> io::Result<Option<OwnedFd>> {
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle has the length that it states, and outlives the call.
    let fd = unsafe {
        let call = libc::SYS_open_by_handle_at;
        libc::syscall(call, mount.as_raw_fd(), &raw mut handle, flags)
    };
    if fd >= 0 {
        // SAFETY: the kernel returned a new descriptor, which only we own.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESTALE) => Ok(None),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_looked_at_first_and_nothing_is_taken_unseen() {
        // No cgroups, and so no handles.
        let mount = tempfile::tempdir().unwrap();
        let ids = ById::default();
        let dir = mount.path().join("a");
        fs::create_dir(&dir).unwrap();
        let id = fs::metadata(&dir).unwrap().ino();
        let find = |ids: &ById| {
            ids.find(
                || File::open(mount.path()).ok(),
                id,
                |below| fs::metadata(mount.path().join(below)).is_ok_and(|found| found.ino() == id),
            )
        };
        assert_eq!(find(&ids), Found::Unknown);
        ids.remember(id, Path::new("a"));
        assert_eq!(find(&ids), Found::At("a".into()));
        fs::rename(&dir, mount.path().join("b")).unwrap();
        assert_eq!(find(&ids), Found::Unknown);
    }
}
