//! Stamps of the directories of links: a cheap proof that no entry came, went or was renamed.
//!
//! bpffs sets the change time of a directory whenever it adds, removes or renames an entry
//! (`bpf_dentry_finalize` in kernel/bpf/inode.c, `simple_unlink` and `simple_rename` in fs/libfs.c). No
//! process can set it to another time. But it is the time of the last tick of the kernel. So a stamp proves
//! nothing about later changes in the same tick: see [`Stamp::is_before`].

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use vipnat_common::AppId;

use crate::{
    kernel::{
        error::{Attempt as _, Result},
        pins::APPS,
    },
    state::app_dirs::{dir_name, links_name},
};

/// The identity of a directory, and the time of the last change of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// The last tick of the kernel's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick(TimeSpec);

impl Tick {
    /// The last tick.
    pub(crate) fn now() -> Result<Self> {
        let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE);
        Ok(Self(now.map_err(io::Error::from).attempt(|| "read the clock".to_owned())?))
    }
}

impl Stamp {
    /// The stamp of the directory of all apps; `None` if there is none.
    pub(crate) fn of_apps(state: &Path) -> Result<Option<Self>> {
        Self::of(&state.join(APPS))
    }

    /// The stamp of the directory of an app; `None` if there is none.
    pub(crate) fn of_app(state: &Path, app_id: AppId, name: &str) -> Result<Option<Self>> {
        Self::of(&app_dir(state, app_id, name))
    }

    /// The stamp of the directory of an app's links on a cgroup; `None` if there is none.
    pub(crate) fn of_links(
        state: &Path,
        app_id: AppId,
        name: &str,
        (cgroup, by_hand): (u64, bool),
    ) -> Result<Option<Self>> {
        Self::of(&app_dir(state, app_id, name).join(links_name(cgroup, by_hand)))
    }

    fn of(dir: &Path) -> Result<Option<Self>> {
        let metadata = match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.attempt(|| format!("read {}", dir.display()))?,
        };
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(Some(Self { device: metadata.dev(), inode: metadata.ino(), changed }))
    }

    /// Whether any change since `tick` gives the directory another stamp. The stamp must have been read after
    /// the tick.
    pub(crate) fn is_before(&self, tick: Tick) -> bool {
        self.changed < (tick.0.tv_sec(), tick.0.tv_nsec())
    }
}

/// The directory of an app.
fn app_dir(state: &Path, app_id: AppId, name: &str) -> PathBuf {
    state.join(APPS).join(dir_name(app_id, name))
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    /// On bpffs if this process may make a directory there, else in a temporary directory.
    fn place() -> PathBuf {
        let name = format!("vipnat-stamp-{}", std::process::id());
        let dir = Path::new("/sys/fs/bpf").join(&name);
        if fs::create_dir(&dir).is_ok() {
            return dir;
        }
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn every_change_of_the_entries_after_a_tick_gives_another_stamp() {
        let dir = place();
        let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
        type Change<'a> = &'a dyn Fn() -> io::Result<()>;
        let changes: [Change<'_>; 4] =
            [&|| fs::create_dir(&a), &|| fs::rename(&a, &b), &|| fs::rename(&b, &c), &|| {
                fs::remove_dir(&c)
            }];
        for (number, change) in changes.iter().enumerate() {
            let before = loop {
                let (tick, stamp) = (Tick::now().unwrap(), Stamp::of(&dir).unwrap().unwrap());
                if stamp.is_before(tick) {
                    break stamp;
                }
                thread::sleep(Duration::from_millis(1));
            };
            assert_eq!(Stamp::of(&dir).unwrap(), Some(before), "nothing changed");
            change().unwrap();
            assert_ne!(Stamp::of(&dir).unwrap(), Some(before), "change {number}");
        }
        let before = Stamp::of(&dir).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert_eq!(Stamp::of(&dir).unwrap(), None);
        fs::create_dir(&dir).unwrap();
        assert_ne!(Stamp::of(&dir).unwrap(), before, "another directory of the same name");
        fs::remove_dir(&dir).unwrap();
    }
}
