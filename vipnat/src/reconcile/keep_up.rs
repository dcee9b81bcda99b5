//! Cgroups that come and go, each at the cost of itself: without a look at other apps, cgroups or maps.
//!
//! Only what is plain is done here: a cgroup that never had a link and that a table gives to one app, and one
//! that is gone. For all else, and whenever the state is not just as an apply leaves it, there is
//! [`Session::apply`].

use crate::kernel::compat;
use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    kernel::{
        cgroup::{Paths, Tree},
        dir_names::names,
        error::{Error, Result},
        maps::Switch,
        others::Others,
        pins::APPS,
    },
    reconcile::Session,
    state::{
        app_dirs,
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};
use vipnat_common::AppId;
use vipnat_core::model::{Change, Place};

/// Who has which cgroup, by the names of the pins.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    app_ids: HashMap<String, AppId>,
    apps: HashMap<AppId, String>,
    /// The app that has links on a cgroup, by id, and whether by hand.
    cgroups: HashMap<u64, (String, bool)>,
}

impl Holdings {
    /// Whether an app has links on a cgroup, or had them when it was there.
    pub fn has(&self, cgroup: u64) -> bool {
        self.cgroups.contains_key(&cgroup)
    }

    /// The cgroups that were attached by hand.
    pub fn by_hand(&self) -> impl Iterator<Item = u64> {
        let by_hand = self.cgroups.iter().filter(|(_, (_, by_hand))| *by_hand);
        by_hand.map(|(cgroup, _)| *cgroup)
    }
}

/// A cgroup that came, and that a table gives to an app.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The app.
    pub app: String,
    /// By a path, not by a pattern.
    pub named: bool,
    /// The cgroup, below the mount.
    pub below: PathBuf,
    /// Its id.
    pub id: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct KeptUp {
    /// What changed.
    pub changes: Vec<Change>,
    /// Why apps could not be attached.
    pub failed: Vec<Error>,
    /// Something is not as plain as it would have to be: apply the table.
    pub unclear: bool,
}

/// What to do about an arrival.
enum Step {
    Attach(AttachedApp),
    /// The cgroup is translated already, or another app's for good: who has links on it, if anybody.
    Nothing(Option<(String, bool)>),
    Unclear,
}

impl Session {
    /// Who has which cgroup.
    ///
    /// # Errors
    ///
    /// Pins that can't be read.
    pub fn holdings(&self) -> Result<Holdings> {
        let mut holdings = Holdings::default();
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(holdings);
        };
        let apps = dir.path().join(APPS);
        for file in names(&apps)? {
            let Some((app_id, name)) = app_dirs::parse_dir_name(&file) else {
                continue;
            };
            for links in names(&apps.join(&file))? {
                if let Some((cgroup, by_hand)) = app_dirs::parse_links_name(&links) {
                    holdings.cgroups.insert(cgroup, (name.clone(), by_hand));
                }
            }
            holdings.app_ids.insert(name.clone(), app_id);
            holdings.apps.insert(app_id, name);
        }
        Ok(holdings)
    }

    /// Attaches cgroups that came, and releases some that went, which are no more. `holdings` are those after
    /// the last apply, and are kept. What fails otherwise than by an attachment is unclear.
    pub fn keep_up(&self, holdings: &mut Holdings, went: &[u64], came: &[Arrival]) -> KeptUp {
        let mut kept = KeptUp::default();
        if self.try_to_keep_up(holdings, went, came, &mut kept).is_err() {
            kept.unclear = true;
        }
        kept
    }

    fn try_to_keep_up(
        &self,
        holdings: &mut Holdings,
        went: &[u64],
        came: &[Arrival],
        kept: &mut KeptUp,
    ) -> Result<()> {
        let dir = StateDir::open_again(&self.dir)?;
        let Some(dir) = dir.filter(|dir| compat::is_current(dir.path())) else {
            kept.unclear = true;
            return Ok(());
        };
        if dir.is_changing()? {
            kept.unclear = true;
            return Ok(());
        }
        let switch = Switch::open(dir.path())?;
        for cgroup in went {
            self.release_one(&dir, &switch, holdings, *cgroup, kept)?;
        }
        let tree = self.tree()?;
        let others = self.others(dir.path(), &tree);
        for arrival in came {
            self.attach_one(&dir, (&switch, &others), holdings, arrival, kept)?;
        }
        dir.is_still_there()
    }

    fn release_one(
        &self,
        dir: &StateDir,
        switch: &Switch,
        holdings: &mut Holdings,
        cgroup: u64,
        kept: &mut KeptUp,
    ) -> Result<()> {
        let Some((name, _)) = holdings.cgroups.get(&cgroup).cloned() else {
            return Ok(());
        };
        let app = match holdings.app_ids.get(&name) {
            Some(app_id) => links::read_one(dir, *app_id, &name, cgroup)?,
            None => None,
        };
        // `attach` may have given it to another app since.
        let Some(app) = app.filter(|app| app.has_links_on(cgroup)) else {
            kept.unclear = true;
            return Ok(());
        };
        links::release(switch, &app, cgroup)?;
        holdings.cgroups.remove(&cgroup);
        kept.changes.push(Change::Leave { app: name, cgroup: Place::Gone });
        Ok(())
    }

    fn attach_one(
        &self,
        dir: &StateDir,
        (switch, others): (&Switch, &Others<'_>),
        holdings: &mut Holdings,
        arrival: &Arrival,
        kept: &mut KeptUp,
    ) -> Result<()> {
        let Arrival { app: name, named: _, below, id } = arrival;
        let app = match self.step(dir, (switch, others.tree()), holdings, arrival)? {
            Step::Attach(app) => app,
            Step::Nothing(holder) => {
                if let Some(holder) = holder {
                    holdings.cgroups.insert(*id, holder);
                }
                return Ok(());
            }
            Step::Unclear => {
                kept.unclear = true;
                return Ok(());
            }
        };
        let path = others.tree().mount().join(below);
        let admitted = others.admit(name, (&path, *id), app.held(*id));
        match admitted.and_then(|()| links::attach(dir, switch, &app, *id, &path)) {
            Ok(()) => {
                holdings.cgroups.insert(*id, (name.clone(), false));
                let (app, cgroup) = (name.clone(), below.clone());
                kept.changes.push(Change::Attach { app, cgroup, id: *id });
            }
            // A container that ends while it is attached is no failure, and leaves nothing.
            Err(_) if id_of(others.tree(), below)? != Some(*id) => {
                let app = links::read_one(dir, app.app_id, name, *id)?.unwrap_or(app);
                links::release(switch, &app, *id)?;
                kept.changes.push(Change::Leave { app: name.clone(), cgroup: Place::Gone });
            }
            Err(error) => kept.failed.push(error),
        }
        Ok(())
    }

    /// The mappings of [`Work`](super::work::Work), for one cgroup. Who has it, the kernel says.
    fn step(
        &self,
        dir: &StateDir,
        (switch, tree): (&Switch, &Tree),
        holdings: &Holdings,
        arrival: &Arrival,
    ) -> Result<Step> {
        let Arrival { app: name, named, below, id } = arrival;
        let Some(app_id) = holdings.app_ids.get(name) else {
            return Ok(Step::Unclear);
        };
        let Some(app) = links::read_one(dir, *app_id, name, *id)? else {
            return Ok(Step::Unclear);
        };
        match switch.app_of(*id)? {
            // It never had a link.
            None if !app.has_links_on(*id) => {}
            Some(on) if on == *app_id && app.is_attached_to(*id) => {
                return Ok(Step::Nothing(Some((name.clone(), app.has_by_hand(*id)))));
            }
            // What was attached by hand says more than a pattern.
            Some(other) if !named && other != *app_id => {
                let holder = holdings.apps.get(&other);
                let theirs = match holder {
                    Some(holder) => links::read_one(dir, other, holder, *id)?,
                    None => None,
                };
                return Ok(match (holder, theirs.filter(|app| app.has_by_hand(*id))) {
                    (Some(holder), Some(_)) => Step::Nothing(Some((holder.clone(), true))),
                    _ => Step::Unclear,
                });
            }
            _ => return Ok(Step::Unclear),
        }
        // It is translated already, with all that is in the outer one.
        for outer in below.ancestors().skip(1).take_while(|outer| *outer != Path::new("")) {
            if let Some(outer) = id_of(tree, outer)?
                && switch.app_of(outer)? == Some(*app_id)
            {
                return Ok(Step::Nothing(None));
            }
        }
        // A cgroup inside this one may be attached, and would be in its way.
        let path = tree.mount().join(below);
        let inner = std::fs::metadata(&path).map_or(0, |cgroup| cgroup.nlink()) > 2;
        Ok(if inner && app.has_any_by_hand()? { Step::Unclear } else { Step::Attach(app) })
    }

    /// The id of a cgroup below the mount; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it can't be told.
    pub fn id_of(&self, below: &Path) -> Result<Option<u64>> {
        id_of(&self.tree()?, below)
    }

    /// The names of the cgroups right below one; none if it is gone.
    ///
    /// # Errors
    ///
    /// If it can't be told.
    pub fn names_in(&self, below: &Path) -> Result<Vec<std::ffi::OsString>> {
        Ok(self.tree()?.names(below)?)
    }

    /// Where cgroups are, by id, below the mount. Those that are gone or not in view are left out.
    ///
    /// # Errors
    ///
    /// If it can't be told.
    pub fn paths_of(&self, cgroups: &[u64]) -> Result<HashMap<u64, PathBuf>> {
        if cgroups.is_empty() {
            return Ok(HashMap::new());
        }
        let paths = Paths::of(&self.tree()?);
        let place = |id: &u64| Some((*id, paths.place(*id).path()?.to_owned()));
        Ok(cgroups.iter().filter_map(place).collect())
    }

    /// Where the cgroups are mounted.
    ///
    /// # Errors
    ///
    /// If no mount shows all of them.
    pub fn cgroup_mount(&self) -> Result<PathBuf> {
        Ok(self.tree()?.mount().to_owned())
    }
}

/// An error if it can't be told: what is not in view is not gone.
fn id_of(tree: &Tree, below: &Path) -> Result<Option<u64>> {
    Ok(tree.id(below)?)
}
