//! The state directory on bpffs: makes, locks and removes it.
//!
//! ```text
//! /sys/fs/bpf/vipnat/
//!     maps/…                 the pinned maps; plus the directory `changing` while they change, and
//!                            `changed` since the last change
//!     progs/…                the pinned programs, one for each hook
//!     apps/1:shop/22768/…    the links of app shop, whose app id is 1, on the cgroup with that id
//! ```

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::MsFlags,
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::Uid,
};

use super::{
    contents::unexpected_entry,
    lock_file::{is_at, try_lock},
    remove::remove_tree,
};
use crate::kernel::{
    dir_names::names,
    error::{Attempt as _, MachineError, Result, StateDirError},
    pins::{APPS, BPFFS, CHANGED, CHANGING, MAPS, NEW, PROGRAMS},
    worker::may_hang,
};

/// The state of maps, apps and names between two changes. Two equal ones mean that no vipnat changed them in
/// between. Attaching and releasing cgroups is no such change.
///
/// It is two inode numbers: bpffs takes each new one from a counter of the whole machine (`get_next_ino` in
/// fs/inode.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    maps: u64,
    changed: u64,
}

/// A locked state directory: no other vipnat changes it while this value lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: Flock<File>,
}

impl StateDir {
    /// Opens and locks a state directory; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// System calls that fail; [`StateDirError`], also if it has an entry that vipnat did not make.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        Self::open_and(path, |path| match unexpected_entry(path)? {
            None => Ok(()),
            Some(entry) => {
                Err(StateDirError::UnexpectedEntry { dir: path.to_owned(), entry }.into())
            }
        })
    }

    /// Opens a state directory that this process opened before. It does not check the entries again, which
    /// would read the directories of all apps.
    pub(crate) fn open_again(path: &Path) -> Result<Option<Self>> {
        Self::open_and(path, |_| Ok(()))
    }

    fn open_and(path: &Path, check: impl Fn(&Path) -> Result<()>) -> Result<Option<Self>> {
        let below = path.strip_prefix(BPFFS).unwrap_or(Path::new(""));
        if below.to_string_lossy().contains('.') {
            return Err(StateDirError::Dots(path.to_owned()).into());
        }
        loop {
            let dir = match File::open(path) {
                Ok(dir) => dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let missing =
                        format!("only its owner may open {}; run vipnat as root", path.display());
                    return Err(MachineError::MissingPrivileges(missing).into());
                }
                Err(error) => return Err(error).attempt(|| format!("open {}", path.display())),
            };
            if !on_bpffs(path) {
                return Err(StateDirError::NotBpffs(path.to_owned()).into());
            }
            let metadata = dir.metadata().attempt(|| format!("read {}", path.display()))?;
            let holder = || format!("the process that keeps {} locked", path.display());
            let lock = may_hang(holder, || lock(dir));
            let lock = lock.attempt(|| format!("lock {}", path.display()))?;
            // The process that had the lock may have removed the directory.
            if is_at(&lock, path) {
                check(path)?;
                for_root_alone(path, &metadata)?;
                return Ok(Some(Self { path: path.to_owned(), lock }));
            }
        }
    }

    /// Opens and locks a state directory, and makes it if it does not exist. It mounts bpffs at the usual
    /// place if it is not mounted.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        loop {
            if let Some(dir) = Self::open(path)? {
                // Another program may have made the directory. No other user needs access.
                let alone = Permissions::from_mode(0o700);
                let metadata = fs::metadata(path).attempt(|| format!("read {}", path.display()))?;
                if metadata.mode() & 0o077 != 0 {
                    fs::set_permissions(path, alone)
                        .attempt(|| format!("change the mode of {}", path.display()))?;
                }
                return Ok(dir);
            }
            let parent = path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(Path::new("/"));
            if !on_bpffs(parent) {
                if parent != Path::new(BPFFS) {
                    return Err(StateDirError::NotBpffs(path.to_owned()).into());
                }
                // systemd does the same. Without a mode, every user could write to it, as to /tmp.
                let (bpf, mode) = (Some("bpf"), Some("mode=0700"));
                nix::mount::mount(bpf, BPFFS, bpf, MsFlags::empty(), mode)
                    .attempt(|| format!("mount bpffs at {BPFFS} (this needs CAP_SYS_ADMIN)"))?;
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .attempt(|| format!("make {}", path.display()))?;
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the path still leads to the locked directory. If it does not, the last reads may have seen
    /// another directory, and removals may have missed this one.
    ///
    /// # Errors
    ///
    /// [`StateDirError::Gone`].
    pub(crate) fn is_still_there(&self) -> Result<()> {
        if is_at(&self.lock, &self.path) {
            return Ok(());
        }
        Err(StateDirError::Gone(self.path.clone()).into())
    }

    fn maps(&self, name: &str) -> PathBuf {
        self.path.join(MAPS).join(name)
    }

    /// Whether an interrupted command may have left the maps between two tables.
    pub(crate) fn is_changing(&self) -> Result<bool> {
        let mark = self.maps(CHANGING);
        mark.try_exists().attempt(|| format!("read {}", mark.display()))
    }

    /// Marks the maps as changing. Call it before the first write.
    pub(crate) fn begin_change(&self) -> Result<()> {
        let mark = self.maps(CHANGING);
        match fs::create_dir(&mark) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.attempt(|| format!("make {}", mark.display())),
        }
    }

    /// Marks the change as complete. This renames one mark to the other, so the second is a new inode after
    /// each change, and a new [`Generation`] begins.
    pub(crate) fn end_change(&self) -> Result<()> {
        let (mark, changed) = (self.maps(CHANGING), self.maps(CHANGED));
        match fs::rename(&mark, &changed) {
            // Nothing changed. The mark is missing beside new maps.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::create_dir(&changed) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    made => made.attempt(|| format!("make {}", changed.display())),
                }
            }
            renamed => renamed.attempt(|| format!("rename {}", mark.display())),
        }
    }

    /// The present generation of maps, apps and names; `None` while they change, or if a change was
    /// interrupted.
    pub(crate) fn generation(&self) -> Result<Option<Generation>> {
        if self.is_changing()? {
            return Ok(None);
        }
        let (maps, changed) = (self.path.join(MAPS), self.maps(CHANGED));
        let inode = |path: &Path| match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other
                .map(|metadata| Some(metadata.ino()))
                .attempt(|| format!("read {}", path.display())),
        };
        let (maps, changed) = (inode(&maps)?, inode(&changed)?);
        Ok(maps.zip(changed).map(|(maps, changed)| Generation { maps, changed }))
    }

    /// Whether it has no entries.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(names(&self.path)?.is_empty())
    }

    /// Removes an entry and all below it, if it exists.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        remove_tree(&self.path.join(name))
    }

    /// Removes the whole directory. The maps go with one rename: without them, there is no state.
    pub(crate) fn remove_all(self) -> Result<()> {
        self.remove(APPS)?;
        self.remove(NEW)?;
        let maps = self.path.join(MAPS);
        if maps.exists() {
            let new = self.path.join(NEW);
            fs::create_dir(&new).attempt(|| format!("make {}", new.display()))?;
            fs::rename(&maps, new.join(MAPS)).attempt(|| format!("rename {}", maps.display()))?;
        }
        self.remove(NEW)?;
        self.remove(PROGRAMS)?;
        match fs::remove_dir(&self.path) {
            // It is the root of a bpffs.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            removed => removed.attempt(|| format!("remove {}", self.path.display())),
        }
    }
}

/// Refuses a state directory that other users can write to: they could move links away. On a bpffs that was
/// mounted without a mode, any user may have made the directory.
fn for_root_alone(path: &Path, metadata: &Metadata) -> Result<()> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if [0, Uid::effective().as_raw()].contains(&owner) && mode & 0o022 == 0 {
        return Ok(());
    }
    Err(StateDirError::OpenToOthers { dir: path.to_owned(), owner, mode }.into())
}

/// Locks a state directory, however long another process holds it.
fn lock(dir: File) -> io::Result<Flock<File>> {
    // Most commands end before a person would want to know.
    let soon = Instant::now() + Duration::from_secs(1);
    match try_lock(dir, FlockArg::LockExclusiveNonblock, soon)? {
        Ok(lock) => Ok(lock),
        Err(dir) => {
            // It is no error if standard error is closed.
            let _ = writeln!(io::stderr(), "vipnat: waiting for another vipnat to finish");
            Ok(Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
        }
    }
}

/// Whether a path is on bpffs.
fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}
