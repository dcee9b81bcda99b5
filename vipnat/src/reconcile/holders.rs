//! The cgroups that apps have, in the memory of a process that follows them.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use vipnat_common::AppId;

use super::context::Context;
use crate::{
    kernel::{dir_names::names, error::Result, foreign_programs::OnCgroup, pins::APPS},
    state::{
        app_dirs,
        links::{self, Stamp, Tick},
        state_dir::StateDir,
    },
};

/// The app that has links on each cgroup.
///
/// A process gets it after an apply, and keeps it up to date: as cgroups come and go
/// ([`Session::follow_cgroups`](super::Session::follow_cgroups)), and by reviews
/// ([`Session::review_links`](super::Session::review_links)).
#[derive(Clone, Debug, Default)]
pub struct CgroupHolders {
    ids: HashMap<String, AppId>,
    apps: BTreeMap<AppId, Holder>,
    cgroups: HashMap<u64, AppId>,
    /// The stamp of the directory of apps when it had the directories of just these apps.
    pub(super) stamp: Option<Stamp>,
}

/// An app.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) name: String,
    /// The stamp of its directory when that had the directories of just these cgroups.
    pub(super) stamp: Option<Stamp>,
    /// By id.
    pub(super) cgroups: BTreeMap<u64, Held>,
}

/// A cgroup on which an app has links, or had them before the cgroup was removed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// `vipnat attach` attached it.
    pub(super) by_hand: bool,
    /// Its path below the mount, if that is known.
    pub(super) below: Option<PathBuf>,
    /// The proof that its links are as they should be; `None` if they have to be read.
    pub(super) proof: Option<Proof>,
}

/// What was seen when all links of a cgroup were read, and were right.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// Of the directory of its links.
    pub(super) stamp: Stamp,
    /// The programs on the cgroup. Most cgroups share one list.
    pub(super) programs: OnCgroup,
}

impl CgroupHolders {
    /// Reads the names of the pins.
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let mut holders = Self::default();
        let Some(dir) = StateDir::open(&context.dir)? else {
            return Ok(holders);
        };
        let tick = Tick::now()?;
        let stamp = Stamp::of_apps(dir.path())?;
        let apps = dir.path().join(APPS);
        for file in names(&apps)? {
            let Some((app_id, name)) = app_dirs::parse_dir_name(&file) else {
                continue;
            };
            holders.add(app_id, &name);
            for links in names(&apps.join(&file))? {
                if let Some((cgroup, by_hand)) = app_dirs::parse_links_name(&links) {
                    holders.give(cgroup, app_id, by_hand, None);
                }
            }
        }
        holders.stamp = stamp.filter(|stamp| stamp.is_before(tick));
        Ok(holders)
    }

    /// Reads the names of the pins of some apps again. `None` in place of an id: the app was removed. Returns
    /// the cgroups that no app has any more, with their paths if those were known.
    pub(crate) fn update<'a>(
        &mut self,
        context: &Context,
        apps: impl Iterator<Item = (&'a str, Option<AppId>)>,
    ) -> Result<Vec<(u64, Option<PathBuf>)>> {
        let dir = StateDir::open_again(&context.dir)?;
        let mut before = BTreeMap::new();
        self.stamp = None;
        for (name, app_id) in apps {
            before.extend(self.remove(name));
            if let (Some(dir), Some(app_id)) = (&dir, app_id) {
                self.add(app_id, name);
                for (cgroup, by_hand) in links::list_one(dir.path(), app_id, name)?.cgroups() {
                    self.give(cgroup, app_id, by_hand, None);
                }
            }
        }
        let mut gone = Vec::new();
        for (cgroup, Held { below, .. }) in before {
            match self.held_mut(cgroup) {
                Some(held) => held.below = below,
                None => gone.push((cgroup, below)),
            }
        }
        Ok(gone)
    }

    /// Whether an app has links on a cgroup, or had them before the cgroup was removed.
    pub fn has(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The cgroups that `vipnat attach` attached.
    pub fn by_hand(&self) -> impl Iterator<Item = u64> {
        let cgroups = self.apps.values().flat_map(|app| &app.cgroups);
        cgroups.filter(|(_, held)| held.by_hand).map(|(cgroup, _)| *cgroup)
    }

    /// Records the path of a cgroup below the mount.
    pub fn place(&mut self, cgroup: u64, below: &Path) {
        if let Some(held) = self.held_mut(cgroup) {
            held.below = Some(below.to_owned());
        }
    }

    /// The id of an app.
    pub(super) fn id(&self, name: &str) -> Option<AppId> {
        self.ids.get(name).copied()
    }

    /// The name of an app.
    pub(super) fn name(&self, app_id: AppId) -> Option<&str> {
        Some(&self.apps.get(&app_id)?.name)
    }

    /// An app, by its id.
    pub(super) fn app(&self, app_id: AppId) -> Option<&Holder> {
        self.apps.get(&app_id)
    }

    /// The same, to change its stamp.
    pub(super) fn app_mut(&mut self, app_id: AppId) -> Option<&mut Holder> {
        self.apps.get_mut(&app_id)
    }

    /// The number of apps.
    pub(super) fn count(&self) -> usize {
        self.apps.len()
    }

    /// The first app from this id on.
    pub(super) fn from(&self, app_id: AppId) -> Option<AppId> {
        Some(*self.apps.range(app_id..).next()?.0)
    }

    /// The first cgroup of an app from this id on.
    pub(super) fn cgroup_from(&self, app_id: AppId, cgroup: u64) -> Option<u64> {
        Some(*self.apps.get(&app_id)?.cgroups.range(cgroup..).next()?.0)
    }

    /// The path of a cgroup below the mount, if that is known.
    pub(super) fn below(&self, cgroup: u64) -> Option<&Path> {
        self.apps.get(self.cgroups.get(&cgroup)?)?.cgroups.get(&cgroup)?.below.as_deref()
    }

    /// The app that has links on a cgroup.
    pub(super) fn holder(&self, cgroup: u64) -> Option<(AppId, &str)> {
        let app_id = *self.cgroups.get(&cgroup)?;
        Some((app_id, self.name(app_id)?))
    }

    /// A cgroup.
    pub(super) fn held_mut(&mut self, cgroup: u64) -> Option<&mut Held> {
        self.apps.get_mut(self.cgroups.get(&cgroup)?)?.cgroups.get_mut(&cgroup)
    }

    /// Adds an app without cgroups.
    fn add(&mut self, app_id: AppId, name: &str) {
        self.ids.insert(name.to_owned(), app_id);
        let app = Holder { name: name.to_owned(), stamp: None, cgroups: BTreeMap::new() };
        self.apps.insert(app_id, app);
    }

    /// Removes an app. Returns its cgroups.
    fn remove(&mut self, name: &str) -> BTreeMap<u64, Held> {
        let app = self.ids.remove(name).and_then(|app_id| self.apps.remove(&app_id));
        let cgroups = app.map(|app| app.cgroups).unwrap_or_default();
        for cgroup in cgroups.keys() {
            self.cgroups.remove(cgroup);
        }
        cgroups
    }

    /// Gives a cgroup to an app. Its links and the directory of the app have to be read.
    pub(super) fn give(
        &mut self,
        cgroup: u64,
        app_id: AppId,
        by_hand: bool,
        below: Option<PathBuf>,
    ) {
        self.take(cgroup);
        if let Some(app) = self.apps.get_mut(&app_id) {
            app.stamp = None;
            app.cgroups.insert(cgroup, Held { by_hand, below, proof: None });
            self.cgroups.insert(cgroup, app_id);
        }
    }

    /// Takes a cgroup from its app.
    pub(super) fn take(&mut self, cgroup: u64) -> Option<Held> {
        let app = self.apps.get_mut(&self.cgroups.remove(&cgroup)?)?;
        app.stamp = None;
        app.cgroups.remove(&cgroup)
    }
}
