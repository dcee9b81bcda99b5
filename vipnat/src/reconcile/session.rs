//! The data path: makes the kernel match a table, reads it back, removes it.
//!
//! The pinned maps and links *are* the state; nothing else is kept, and no process has to stay.
//! [`Session::apply`] reads them back (`snapshot`), computes the difference (`work`, `plan`), and
//! makes it (`carry_out`) in an order in which every connect goes where the old table or the new one
//! says. State that another build left is taken over first (`upgrade`).

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use vipnat_core::model::Place;

use super::{
    outcome::{Flushed, Living},
    recover::settle,
    status::{self, Listing},
};
use crate::{
    kernel::{
        cgroup::{Paths, Tree},
        compat,
        error::Result,
        maps::{Maps, Switch},
        others::Others,
        preflight::{self, Privilege},
    },
    state::{
        links, name_index, pending_disconnects::PendingDisconnects, staging, state_dir::StateDir,
    },
};
use vipnat_core::plan::Plan;

/// The state in one directory of bpffs.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) dir: PathBuf,
    /// The cgroups, as they were last in view.
    tree: RefCell<Option<Tree>>,
    override_inherited: bool,
}

impl Session {
    /// The state in `dir`, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tree: RefCell::default(), override_inherited: false }
    }

    /// The cgroups: all there are, proven anew each time, since others mount and unmount.
    pub(super) fn tree(&self) -> Result<Tree> {
        let mut known = self.tree.borrow_mut();
        match known.as_ref().filter(|tree| tree.is_current()) {
            Some(tree) => Ok(tree.clone()),
            None => Ok(known.insert(Tree::find()?).clone()),
        }
    }

    /// The same, which attaches apps also where that switches off programs that their cgroups inherit:
    /// those attached to a cgroup above with `BPF_F_ALLOW_OVERRIDE`.
    pub fn override_inherited(self, yes: bool) -> Self {
        Self { override_inherited: yes, ..self }
    }

    pub(super) fn others<'a>(&self, state: &Path, tree: &'a Tree) -> Others<'a> {
        Others::new(state, tree, self.override_inherited)
    }

    /// Whether anything is applied, by whichever build.
    pub fn is_applied(&self) -> bool {
        let exists = |dir| staging::exists(&dir);
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
        preflight::check(Privilege::UsePins)?;
        let dir = StateDir::open(&self.dir)?;
        let mut flushed = Flushed::default();
        if let Some(dir) = &dir {
            flushed.found = !dir.is_empty()?;
            // Off first, if that can be; unlinking does the rest.
            if let (Ok(switch), Ok(apps)) = (Switch::open(dir.path()), links::read(dir)) {
                for app in apps {
                    links::release_all(&switch, &app)?;
                }
            }
        }
        match name_index::remove(&self.dir) {
            Ok(found) => flushed.found |= found,
            Err(error) => flushed.warn("remove the list of names", &error),
        }
        if let Err(error) = PendingDisconnects::remove(&self.dir) {
            flushed.warn("clear the list of pending disconnects", &error);
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
        preflight::check(Privilege::Change)?;
        let mut flushed = Flushed::default();
        let Some((dir, maps)) = self.open()? else {
            return Ok(flushed);
        };
        let apps = links::find(&dir, name)?;
        if !apps.is_empty() {
            flushed.found = true;
            let (now, _) = settle(&maps, true)?;
            let plan = Plan::new(&now, &[], |app_id| apps.iter().any(|app| app.app_id == app_id))?;
            apps.iter().try_for_each(|app| links::release_all(maps.cgroups(), app))?;
            dir.begin_change()?;
            maps.execute(&plan.steps())?;
            dir.end_change()?;
        }
        // Also if the app is gone: that may be what could not be done before.
        let mut record = name_index::load(&self.dir);
        if let Some(problem) = record.problem() {
            flushed.warnings.push(format!("{problem}; its names stay in there"));
        } else {
            flushed.found |= record.forget(name);
            if let Err(error) = name_index::save(&record, &self.dir) {
                flushed.warn("remove its names from the list", &error);
            }
        }
        if let Err(error) = self.forget_drains(&dir, |departed| departed.app == name) {
            flushed.warn("remove its connections from the list of pending disconnects", &error);
        }
        // Last, since without it nothing else is found under its name.
        apps.iter().try_for_each(links::remove)?;
        dir.is_still_there()?;
        Ok(flushed)
    }

    /// The living cgroups that an app is translated in.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no such app; state of another layout; system calls that fail.
    pub fn cgroups_of(&self, name: &str) -> Result<Living> {
        preflight::check(Privilege::UsePins)?;
        let Some((dir, maps)) = self.open()? else {
            return Err(links::unknown(None, name));
        };
        // Of one app alone, and so with the lock.
        let Some(app) = links::find(&dir, name)?.into_iter().next() else {
            return Err(links::unknown(Some(&dir), name));
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
        preflight::check(Privilege::UsePins)?;
        let Some((dir, maps)) = self.open()? else {
            return Ok(None);
        };
        let tree = self.tree()?;
        let Some(below) = tree.below(path) else {
            return Ok(None);
        };
        let apps = links::list(&dir)?;
        for below in below.ancestors().take_while(|below| *below != Path::new("")) {
            let Some(cgroup) = tree.id(below)? else {
                continue;
            };
            let app_id = maps.cgroups().app_of(cgroup)?;
            let Some(app) = apps.iter().find(|app| app_id == Some(app.app_id)) else {
                continue;
            };
            // Without its links the switch does nothing.
            if links::read_one(&dir, app.app_id, &app.name, cgroup)?
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
        preflight::check(Privilege::UsePins)?;
        match self.observe(|maps| status::Source::copy(maps, &self.dir))? {
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
    pub(super) fn open(&self) -> Result<Option<(StateDir, Maps)>> {
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(None);
        };
        if !staging::exists(&dir)? {
            return Ok(None);
        }
        compat::check_layout(dir.path())?;
        let maps = Maps::open(dir.path())?;
        Ok(Some((dir, maps)))
    }
}
