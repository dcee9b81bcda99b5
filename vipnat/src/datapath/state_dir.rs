//! The state directory on bpffs: made, locked, removed.
//!
//! ```text
//! /sys/fs/bpf/vipnat/
//!     maps/…            the pinned maps
//!     progs/…           the pinned programs, one for each hook
//!     apps/1:shop/…     one directory for each app, named by scope and app, with its links
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::MsFlags,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::error::{Attempt as _, Error, Result};

/// Where bpffs is mounted by convention (`Documentation/filesystems`, libbpf, systemd).
const BPFFS: &str = "/sys/fs/bpf";

/// A state directory that exists and that no other vipnat changes as long as this lives.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Opens and locks a state directory; `None` if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        loop {
            let dir = match File::open(path) {
                Ok(dir) => dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error).attempt(|| format!("open {}", path.display())),
            };
            if !on_bpffs(path) {
                return Err(not_bpffs(path));
            }
            let inode = dir.metadata().attempt(|| format!("read {}", path.display()))?.ino();
            let lock = lock(dir).attempt(|| format!("lock {}", path.display()))?;
            // Whoever had the lock may have removed the directory.
            if fs::metadata(path).is_ok_and(|now| now.ino() == inode) {
                return Ok(Some(Self { path: path.to_owned(), _lock: lock }));
            }
        }
    }

    /// Opens and locks a state directory, which is made if it does not exist; bpffs is mounted
    /// at its usual place if it is not.
    pub(super) fn create(path: &Path) -> Result<Self> {
        loop {
            if let Some(dir) = Self::open(path)? {
                return Ok(dir);
            }
            let parent = path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(Path::new("/"));
            if !on_bpffs(parent) {
                if parent != Path::new(BPFFS) {
                    return Err(not_bpffs(path));
                }
                nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                    .attempt(|| format!("mount bpffs at {BPFFS}"))?;
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .attempt(|| format!("make {}", path.display()))?;
        }
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what is below `name`, if anything, in the order that keeps the data path whole
    /// longest: unlinking a pinned link detaches it.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        remove_tree(&self.path.join(name))
    }

    /// Removes the directory itself, which must be empty.
    pub(super) fn remove_self(self) -> Result<()> {
        fs::remove_dir(&self.path).attempt(|| format!("remove {}", self.path.display()))
    }
}

/// Removes a directory of pins; it is no error if it does not exist.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).attempt(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if it does not exist.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).attempt(|| format!("read {}", path.display())),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .attempt(|| format!("read {}", path.display()))?;
    names.sort_unstable();
    Ok(names)
}

fn lock(dir: File) -> nix::Result<Flock<File>> {
    match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((dir, Errno::EWOULDBLOCK)) => {
            eprintln!("vipnat: waiting for another vipnat to finish");
            Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno)
        }
        Err((_, errno)) => Err(errno),
    }
}

fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

fn not_bpffs(path: &Path) -> Error {
    Error::Unsupported(format!(
        "{} is not on a BPF file system; use a directory below {BPFFS} for --bpffs, or mount one: \
         mount -t bpf bpf DIR",
        path.display()
    ))
}
