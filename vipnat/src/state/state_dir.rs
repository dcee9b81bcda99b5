//! The state directory on bpffs: made, locked, removed.
//!
//! ```text
//! /sys/fs/bpf/vipnat/
//!     maps/…                 the pinned maps; a directory `changing` only while they change
//!     progs/…                the pinned programs, one for each hook
//!     apps/1:shop/22768/…    the links of app shop, whose app id is 1, on the cgroup with that id
//! ```

use crate::kernel::hook_query;
use crate::kernel::pins;
use crate::kernel::pins::APPS;
use crate::kernel::pins::BPFFS;
use crate::kernel::pins::MAPS;
use crate::kernel::pins::NEW;
use crate::kernel::pins::PROGRAMS;
use crate::kernel::pins::names;
use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::MsFlags,
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::Uid,
};

use crate::kernel::worker::may_hang;
use crate::{
    kernel::{
        bpf_syscall,
        error::{Attempt as _, Error, Result},
    },
    state::links,
};

/// Beside the maps while they change. If it is found, a change was interrupted.
const CHANGING: &str = "maps/changing";

/// A state directory that exists and that no other vipnat changes as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: Flock<File>,
}

impl StateDir {
    /// Opens and locks a state directory; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Also if it holds anything that is not vipnat's: it is not ours to change or remove.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        Self::open_and(path, |path| match foreign(path)? {
            None => Ok(()),
            Some(other) => Err(Error::Unsupported(format!(
                "{} is not vipnat's alone: it holds {other}; remove that, or use a directory of its own for --bpffs",
                path.display()
            ))),
        })
    }

    /// The same of a directory that this process opened before, so that what is in it is known: looking for
    /// what is not vipnat's takes a look at all apps.
    pub(crate) fn open_again(path: &Path) -> Result<Option<Self>> {
        Self::open_and(path, |_| Ok(()))
    }

    fn open_and(path: &Path, check: impl Fn(&Path) -> Result<()>) -> Result<Option<Self>> {
        let below = path.strip_prefix(BPFFS).unwrap_or(Path::new(""));
        if below.to_string_lossy().contains('.') {
            return Err(Error::Unsupported(format!(
                "{}: bpffs allows no dots in names; use another name for --bpffs",
                path.display()
            )));
        }
        loop {
            let dir = match File::open(path) {
                Ok(dir) => dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Error::Unsupported(format!(
                        "missing privileges: {} is for its owner alone; run vipnat as root",
                        path.display()
                    )));
                }
                Err(error) => return Err(error).attempt(|| format!("open {}", path.display())),
            };
            if !on_bpffs(path) {
                return Err(not_bpffs(path));
            }
            let metadata = dir.metadata().attempt(|| format!("read {}", path.display()))?;
            let holder = || format!("the process that keeps {} locked", path.display());
            let lock = may_hang(holder, || lock(dir));
            let lock = lock.attempt(|| format!("lock {}", path.display()))?;
            // Whoever had the lock may have removed the directory.
            if is_at(&lock, path) {
                check(path)?;
                for_root_alone(path, &metadata)?;
                return Ok(Some(Self { path: path.to_owned(), lock }));
            }
        }
    }

    /// Opens and locks a state directory, which is made if it does not exist; bpffs is mounted
    /// at its usual place if it is not.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        loop {
            if let Some(dir) = Self::open(path)? {
                // Made by somebody else, perhaps in another way; nobody else has business there.
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
                    return Err(not_bpffs(path));
                }
                // As systemd does it; without a mode it is everybody's, like /tmp.
                let (bpf, mode) = (Some("bpf"), Some("mode=0700"));
                nix::mount::mount(bpf, BPFFS, bpf, MsFlags::empty(), mode).attempt(|| {
                    format!("mount bpffs at {BPFFS} (whoever does needs CAP_SYS_ADMIN)")
                })?;
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .attempt(|| format!("make {}", path.display()))?;
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to it: otherwise what was read of it last may have been nothing
    /// at all, and what was to be removed may be there.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub(crate) fn is_still_there(&self) -> Result<()> {
        if is_at(&self.lock, &self.path) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} went away meanwhile: its file system was unmounted, or hidden by another one; run \
             the command again",
            self.path.display()
        )))
    }

    /// Whether the maps may be between two tables, because a command was interrupted.
    pub(crate) fn is_changing(&self) -> Result<bool> {
        let mark = self.path.join(CHANGING);
        mark.try_exists().attempt(|| format!("read {}", mark.display()))
    }

    /// Notes that the maps change, before the first write.
    pub(crate) fn begin_change(&self) -> Result<()> {
        let mark = self.path.join(CHANGING);
        match fs::create_dir(&mark) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.attempt(|| format!("make {}", mark.display())),
        }
    }

    /// Notes that they are what they are to be.
    pub(crate) fn end_change(&self) -> Result<()> {
        let mark = self.path.join(CHANGING);
        match fs::remove_dir(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.attempt(|| format!("remove {}", mark.display())),
        }
    }

    /// Whether it holds anything.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        Ok(names(&self.path)?.is_empty())
    }

    /// Removes what is below `name`, if anything.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        remove_tree(&self.path.join(name))
    }

    /// Removes all of it. The maps go at one stroke: without them there is no state.
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
            // The root of a bpffs.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            removed => removed.attempt(|| format!("remove {}", self.path.display())),
        }
    }
}

/// Refuses a state directory that others may write to: they could put the links aside. Where bpffs is
/// everybody's, which it is when it is mounted without a mode, anybody may have made it before us.
fn for_root_alone(path: &Path, metadata: &Metadata) -> Result<()> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if [0, Uid::effective().as_raw()].contains(&owner) && mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "{} can be changed by others than root: it belongs to user {owner} and has mode {mode:03o}; \
         remove it, or use another directory for --bpffs",
        path.display()
    )))
}

/// Something in a state directory that is not vipnat's, if there is anything. Where the layout map
/// is, maps and programs are those of some vipnat, perhaps a later one; elsewhere they have to be
/// such as an interrupted command leaves.
fn foreign(path: &Path) -> Result<Option<String>> {
    let vouched = [path.join(MAPS), path.join(NEW).join(MAPS)]
        .iter()
        .any(|maps| maps.join(pins::LAYOUT_MAP).exists());
    let hook = |name: &str| vouched || pins::HOOKS.iter().any(|(hook, _)| *hook == name);
    let map = |name: &str| vouched || pins::MAP_NAMES.contains(&name);
    let app = |name: &str| links::parse_dir_name(name).is_some();
    let part = |name: &str| [MAPS, PROGRAMS].contains(&name);
    let top = |name: &str| part(name) || [APPS, NEW].contains(&name);
    let new = path.join(NEW);
    type Ours<'a> = &'a dyn Fn(&str) -> bool;
    let places: [(PathBuf, Ours<'_>); 7] = [
        (path.to_owned(), &top),
        (path.join(APPS), &app),
        (path.join(MAPS), &map),
        (path.join(PROGRAMS), &hook),
        (new.join(MAPS), &map),
        (new.join(PROGRAMS), &hook),
        (new, &part),
    ];
    for (dir, ours) in places {
        if let Some(other) = names(&dir)?.into_iter().find(|name| !ours(name)) {
            return Ok(Some(dir.join(other).display().to_string()));
        }
    }
    Ok(None)
}

/// Removes a directory of pins, of which links are detached first; it is no error if it does not exist.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    remove_tree_but(path, &[])
}

/// The same, where some links, by id, stay attached: they are pinned elsewhere, too.
pub(crate) fn remove_tree_but(path: &Path, stay: &[u32]) -> Result<()> {
    if path.exists() && !path.is_dir() {
        detach_but(path, stay)?;
        return fs::remove_file(path).attempt(|| format!("remove {}", path.display()));
    }
    for name in names(path)? {
        let entry = path.join(name);
        if entry.is_dir() { remove_tree_but(&entry, stay)? } else { detach_but(&entry, stay)? }
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).attempt(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn detach_but(pin: &Path, stay: &[u32]) -> Result<()> {
    let stays =
        !stay.is_empty() && bpf_syscall::link_info(pin).is_ok_and(|link| stay.contains(&link.id));
    if stays { Ok(()) } else { detach(pin) }
}

/// Detaches a pin, if it is a link's. Unlinking it would leave that to a worker of the kernel, and to
/// whoever has it open.
fn detach(pin: &Path) -> Result<()> {
    match hook_query::detach_pinned_link(pin) {
        // It went, or it is no link: the kernel says EINVAL of maps and programs, and of their kinds that
        // can't be pinned for reading alone.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::EINVAL) =>
        {
            Ok(())
        }
        detached => detached.attempt(|| format!("detach {}", pin.display())),
    }
}

fn lock(mut dir: File) -> nix::Result<Flock<File>> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        dir = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            // Most are done before anybody would want to know.
            Err((dir, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
                dir
            }
            Err((dir, Errno::EWOULDBLOCK)) => {
                // To nobody, if nobody listens.
                let _ = writeln!(io::stderr(), "vipnat: waiting for another vipnat to finish");
                return Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
            }
            Err((_, errno)) => return Err(errno),
        };
    }
}

/// Whether a path leads to an open directory.
fn is_at(dir: &File, path: &Path) -> bool {
    let id = |file: Metadata| (file.dev(), file.ino());
    dir.metadata().is_ok_and(|open| fs::metadata(path).is_ok_and(|there| id(there) == id(open)))
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
