//! The data path: makes the kernel match a table, reads it back, removes it.
//!
//! The pinned maps and links *are* the state; nothing else is kept, and no process has to stay.
//! [`Datapath::apply`] reads them back (`snapshot`), computes the difference (`work`, `plan`), and
//! makes it (`carry_out`) in an order in which every connect goes where the old table or the new one
//! says. State that another build left is taken over first (`upgrade`).

mod apply;
mod apps;
mod attach;
#[cfg(test)]
mod boundary;
mod capacity;
mod carry_out;
mod cgroup;
mod departed;
mod desired;
mod ending;
mod error;
mod keep_up;
mod kernel;
mod listing;
mod maps;
mod mend;
mod object;
mod observe;
mod others;
mod plan;
mod rule;
mod snapshot;
mod sockets;
mod state_dir;
mod sys;
mod transfer;
mod upgrade;
mod work;

use std::{
    cell::RefCell,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use self::{
    carry_out::{remove_entries, settle},
    cgroup::Paths,
    kernel::Need,
    maps::{Maps, Switch},
    others::Others,
    plan::Plan,
    state_dir::StateDir,
};
pub use self::{
    cgroup::{Place, Tree as CgroupTree, enter as enter_cgroup, of_process as cgroup_of_process},
    departed::Departed,
    desired::Desired,
    ending::{Connections, Drained},
    error::{Error, Result},
    keep_up::{Arrival, Holdings, KeptUp},
    listing::{ListedApp, ListedCgroup, ListedVip, Listing},
    rule::{Rule, Turn},
};
use crate::{
    drains::Drains,
    record::{self, Record},
};
pub(crate) use departed::Rules;

/// The state in one directory of bpffs.
#[derive(Clone, Debug)]
pub struct Datapath {
    dir: PathBuf,
    /// The cgroups, as they were last in view.
    tree: RefCell<Option<CgroupTree>>,
    override_inherited: bool,
}

/// What becomes of apps whose cgroup, named by its path, does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// They are an error, before anything is changed.
    Refuse,
    /// Their VIPs are there, and whoever applies the table again when the cgroup exists attaches them.
    Await,
}

/// One difference that [`Datapath::apply`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The programs are replaced by those of this build.
    Upgrade {
        /// How the layout of the maps differed; `None` if it did not.
        layout: Option<String>,
    },
    /// The table outgrew the maps, and larger ones take their place.
    Grow {
        /// How many VIPs they hold; those that are limited count twice.
        vips: u32,
        /// How many backends, each for each of its VIPs and turns.
        backends: u32,
    },
    /// A new app has no cgroup yet.
    Expect {
        /// The app.
        app: String,
    },
    /// An app is attached to a cgroup, for the first time or again.
    Attach {
        /// The app.
        app: String,
        /// The cgroup, below the mount.
        cgroup: PathBuf,
        /// Its id.
        id: u64,
    },
    /// An app is no longer translated in a cgroup.
    Leave {
        /// The app.
        app: String,
        /// The cgroup.
        cgroup: Place,
    },
    /// An app is no longer translated.
    Detach {
        /// The app.
        app: String,
    },
    /// A VIP comes (no old rule), goes (no new one) or changes.
    Vip {
        /// The app.
        app: String,
        /// The relationship, if its name is known.
        relationship: Option<String>,
        /// The VIP.
        vip: Ipv4Addr,
        /// What it did.
        old: Option<Rule>,
        /// What it does from now on.
        new: Option<Rule>,
    },
    /// What a crash left behind is put in order.
    Repair,
}

/// The living cgroups of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// Those in view, as whole paths.
    pub paths: Vec<PathBuf>,
    /// Why there are others that are not, if there are.
    pub unseen: Option<String>,
}

/// What came of [`Datapath::attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The app was translated there already.
    Already,
    /// It is now.
    Now,
    /// It is now, and another app, to which a table had given the cgroup, is no longer.
    TakenFrom(String),
}

/// What came of [`Datapath::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// What it changed.
    pub changes: Vec<Change>,
    /// Connections that were ended, since their backend left the table.
    pub ended: Vec<Connections>,
    /// Connections that will be, and when.
    pub draining: Vec<(Connections, SystemTime)>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Why apps could not be attached. These keep what they had, and so do those whose cgroups they were
    /// to get.
    pub failed: Vec<Error>,
}

/// What came of [`Datapath::flush`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Whether there was anything to remove.
    pub found: bool,
    /// What could not be done beside the data path, which is removed all the same.
    pub warnings: Vec<String>,
}

impl Flushed {
    fn warn(&mut self, what: &str, error: &io::Error) {
        self.warnings.push(format!("cannot {what} in {}: {error}", record::DIRECTORY));
    }
}

impl Datapath {
    /// The state in `dir`, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tree: RefCell::default(), override_inherited: false }
    }

    /// The cgroups: all there are, proven anew each time, since others mount and unmount.
    fn tree(&self) -> Result<CgroupTree> {
        let mut known = self.tree.borrow_mut();
        match known.as_ref().filter(|tree| tree.is_current()) {
            Some(tree) => Ok(tree.clone()),
            None => Ok(known.insert(CgroupTree::find()?).clone()),
        }
    }

    /// The same, which attaches apps also where that switches off programs that their cgroups inherit:
    /// those attached to a cgroup above with `BPF_F_ALLOW_OVERRIDE`.
    pub fn override_inherited(self, yes: bool) -> Self {
        Self { override_inherited: yes, ..self }
    }

    fn others<'a>(&self, state: &Path, tree: &'a CgroupTree) -> Others<'a> {
        Others::new(state, tree, self.override_inherited)
    }

    /// Whether anything is applied, by whichever build.
    pub fn is_applied(&self) -> bool {
        let exists = |dir| object::exists(&dir);
        StateDir::open(&self.dir)
            .is_ok_and(|dir| dir.map(exists).is_some_and(|it| it.unwrap_or(true)))
    }

    /// Removes all of it: translation stops, nothing is left.
    ///
    /// Works on state of any layout. Established connections stay, but from now on their sockets
    /// show the backend as their peer. What is kept beside the state and can't be removed is a warning.
    ///
    /// # Errors
    ///
    /// A directory that is not vipnat's; system calls that fail.
    pub fn flush(&self) -> Result<Flushed> {
        kernel::check(Need::Pins)?;
        let dir = StateDir::open(&self.dir)?;
        let mut flushed = Flushed::default();
        if let Some(dir) = &dir {
            flushed.found = !dir.is_empty()?;
            // Off first, if that can be; unlinking does the rest.
            if let (Ok(switch), Ok(apps)) = (Switch::open(dir.path()), apps::read(dir)) {
                for app in apps {
                    apps::release_all(&switch, &app)?;
                }
            }
        }
        match Record::remove(&self.dir) {
            Ok(found) => flushed.found |= found,
            Err(error) => flushed.warn("remove the record of names", &error),
        }
        if let Err(error) = Drains::remove(&self.dir) {
            flushed.warn("forget which connections are to end", &error);
        }
        if let Some(dir) = dir {
            dir.remove_all()?;
        }
        Ok(flushed)
    }

    /// Removes one app; nothing is found if there is no such app.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub fn flush_app(&self, name: &str) -> Result<Flushed> {
        kernel::check(Need::Change)?;
        let mut flushed = Flushed::default();
        let Some((dir, maps)) = self.open()? else {
            return Ok(flushed);
        };
        let apps = apps::find(&dir, name)?;
        if !apps.is_empty() {
            flushed.found = true;
            let (now, _) = settle(&maps, true)?;
            let plan = Plan::new(&now, &[], |scope| apps.iter().any(|app| app.scope == scope))?;
            apps.iter().try_for_each(|app| apps::release_all(maps.cgroups(), app))?;
            dir.begin_change()?;
            remove_entries(&maps, &plan)?;
            maps.write_slots(&plan.retired)?;
            dir.end_change()?;
        }
        // Also if the app is gone: that may be what could not be done before.
        let mut record = Record::load(&self.dir);
        if let Some(problem) = record.problem() {
            flushed.warnings.push(format!("{problem}; its names stay in there"));
        } else {
            flushed.found |= record.forget(name);
            if let Err(error) = record.save(&self.dir) {
                flushed.warn("take its names out of the record", &error);
            }
        }
        if let Err(error) = self.forget_drains(&dir, |departed| departed.app == name) {
            flushed.warn("forget which of its connections are to end", &error);
        }
        // Last, since without it nothing else is found under its name.
        apps.iter().try_for_each(apps::remove)?;
        dir.is_still_there()?;
        Ok(flushed)
    }

    /// The living cgroups that an app is translated in.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no such app; state of another layout; system calls that fail.
    pub fn cgroups_of(&self, name: &str) -> Result<Living> {
        kernel::check(Need::Pins)?;
        let Some((dir, maps)) = self.open()? else {
            return Err(apps::unknown(None, name));
        };
        // Of one app alone, and so with the lock.
        let Some(app) = apps::find(&dir, name)?.into_iter().next() else {
            return Err(apps::unknown(Some(&dir), name));
        };
        let active = app.active(maps.cgroups())?;
        drop(dir);
        let tree = self.tree()?;
        let paths = Paths::of(&tree);
        let mut living = Living::default();
        for id in active {
            match paths.place(id) {
                Place::At(path) => living.paths.push(tree.mount().join(path)),
                Place::Unseen(_) => {
                    living.unseen =
                        Some(paths.reason().map(ToString::to_string).unwrap_or_default());
                }
                Place::Gone => {}
            }
        }
        living.paths.sort();
        Ok(living)
    }

    /// The app whose VIPs a process in this cgroup has, given as a whole path: that of the nearest cgroup
    /// above it, or of itself, where one is translated.
    ///
    /// # Errors
    ///
    /// A cgroup that is not in view; state of another layout; system calls that fail.
    pub fn app_at(&self, path: &Path) -> Result<Option<String>> {
        kernel::check(Need::Pins)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(None);
        };
        let tree = self.tree()?;
        let Some(below) = tree.below(path) else {
            return Ok(None);
        };
        let apps = apps::list(&dir)?;
        for below in below.ancestors().take_while(|below| *below != Path::new("")) {
            let Some(cgroup) = tree.id(below)? else {
                continue;
            };
            let scope = maps.cgroups().scope(cgroup)?;
            let Some(app) = apps.iter().find(|app| scope == Some(app.scope)) else {
                continue;
            };
            // Without its links the switch does nothing.
            if apps::read_one(&dir, app.scope, &app.name, cgroup)?
                .is_some_and(|app| app.is_attached_to(cgroup))
            {
                return Ok(Some(app.name.clone()));
            }
        }
        Ok(None)
    }

    /// What the kernel does now. Empty if nothing was ever applied.
    ///
    /// # Errors
    ///
    /// State of another layout; missing privileges; system calls that fail.
    pub fn list(&self) -> Result<Listing> {
        kernel::check(Need::Pins)?;
        match self.observe(|maps| listing::Source::copy(maps, &self.dir))? {
            None => Ok(Listing::empty()),
            Some(observed) => {
                let tree = self.tree();
                let paths =
                    tree.map_or_else(|error| Paths::unseen(&error), |tree| Paths::of(&tree));
                Listing::new(observed, &paths)
            }
        }
    }

    /// Opens state that exists and is of this layout.
    fn open(&self) -> Result<Option<(StateDir, Maps)>> {
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(None);
        };
        if !object::exists(&dir)? {
            return Ok(None);
        }
        object::check_layout(dir.path())?;
        let maps = Maps::open(dir.path())?;
        Ok(Some((dir, maps)))
    }
}
