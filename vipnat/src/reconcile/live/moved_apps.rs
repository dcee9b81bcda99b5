//! Finds the cgroups of apps that came, went or have other cgroups in the new table.
//!
//! If another app is involved, such as one that gets the cgroup of a removed app, a full apply decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use vipnat_common::AppId;
use vipnat_core::{
    model::{Desired, DesiredApp, Place},
    table::{CgroupIndex, Difference, Owner, Table},
};

use super::state::Live;
use crate::{
    kernel::{
        cgroup::{self, Names, Paths, Tree},
        error::Result,
    },
    state::{
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};

/// Apps that come or go, or get other cgroups.
#[derive(Default)]
pub(super) struct MovedApps {
    /// Those of the new table, with their cgroups and without mappings.
    pub(super) desired: Desired,
    /// The app id of each of them.
    pub(super) app_ids: BTreeMap<String, AppId>,
    /// Those that were there before, with their links.
    pub(super) attached: Vec<AttachedApp>,
}

impl MovedApps {
    pub(super) fn is_empty(&self) -> bool {
        self.desired.apps.is_empty() && self.attached.is_empty()
    }

    /// The names of all of them; some twice.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let before = self.attached.iter().map(|app| app.name.as_str());
        before.chain(self.desired.apps.keys().map(String::as_str))
    }
}

/// Finds the apps that a difference moves; `None` if a full apply must decide.
pub(super) fn find_moved(
    live: &Live,
    dir: &StateDir,
    tree: &Tree,
    table: &Table,
    difference: &Difference,
    last_app: u32,
) -> Result<Option<MovedApps>> {
    let mut moved = MovedApps::default();
    let names = difference.apps.iter().filter(|(_, of)| of.moves()).map(|(name, _)| name);
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Ok(Some(moved));
    }
    let mut last = last_app;
    for name in names {
        let known = live.app_ids.get(name).copied();
        if let Some(app_id) = known {
            let Some(app) = links::read_app(dir, app_id, name)? else {
                return Ok(None);
            };
            moved.attached.push(app);
        }
        if table.apps.contains_key(name) {
            let app_id = match known {
                Some(app_id) => app_id,
                None => {
                    // After the last number of all, a full apply looks for unused ones.
                    let new = last.checked_add(1).map(AppId);
                    let Some(new) = new.filter(|new| !live.content.has_app(*new)) else {
                        return Ok(None);
                    };
                    last = new.0;
                    new
                }
            };
            moved.app_ids.insert(name.clone(), app_id);
        }
    }
    let index = CgroupIndex::of(table);
    let mut listed = Names::of(tree);
    for name in moved.app_ids.keys() {
        let Some(app) = resolve(name, table, &index, &mut listed) else {
            return Ok(None);
        };
        moved.desired.apps.insert(name.clone(), app);
    }
    if has_old_heir(&moved, live) {
        return Ok(None);
    }
    let involves_another = involves_another(&moved, live, &index, &Paths::of(tree))?;
    Ok((!involves_another).then_some(moved))
}

/// Whether an app that was there before gets a cgroup of an app that goes. Its policies then count for the
/// connections of that cgroup, also those of VIPs that do not change.
fn has_old_heir(moved: &MovedApps, live: &Live) -> bool {
    let gone = moved.attached.iter().filter(|app| !moved.app_ids.contains_key(&app.name));
    let cgroups: BTreeSet<_> = gone.flat_map(AttachedApp::cgroups).collect();
    let old = moved.desired.apps.iter().filter(|(name, _)| live.app_ids.contains_key(*name));
    old.flat_map(|(_, app)| app.cgroups.keys()).any(|cgroup| cgroups.contains(cgroup))
}

/// The cgroups of an app, if each belongs to this app alone, and all are in view.
fn resolve(
    name: &str,
    table: &Table,
    index: &CgroupIndex,
    names: &mut Names<'_>,
) -> Option<DesiredApp> {
    let mut app = DesiredApp::default();
    let Some(cgroups) = &table.apps[name].cgroup else {
        return Some(app);
    };
    let found = cgroup::find(names, cgroups);
    let is_ours = |path: &PathBuf| owner_of(index, path).is_some_and(|owner| owner == name);
    if !found.unseen.is_empty() || !found.cgroups.values().all(is_ours) {
        return None;
    }
    app.may_have_unseen = cgroups.path().is_none() || found.cgroups.is_empty();
    if cgroups.path().is_some() {
        app.named = found.cgroups.keys().copied().collect();
    }
    app.cgroups = found.cgroups;
    Some(app)
}

/// Whether a cgroup of a moved app belongs to another app now, or should belong to one after the change.
fn involves_another(
    moved: &MovedApps,
    live: &Live,
    index: &CgroupIndex,
    paths: &Paths,
) -> Result<bool> {
    let switch = live.maps.cgroups();
    let before = moved.attached.iter().map(|app| app.app_id);
    let ids: BTreeSet<_> = before.chain(moved.app_ids.values().copied()).collect();
    let wanted = moved.desired.apps.values().flat_map(|app| app.cgroups.keys().copied());
    for cgroup in wanted {
        let on = switch.app_of(cgroup)?.filter(|app_id| *app_id != AppId::NONE);
        if on.is_some_and(|app_id| !ids.contains(&app_id)) {
            return Ok(true);
        }
    }
    for cgroup in moved.attached.iter().flat_map(AttachedApp::cgroups) {
        let stays_among_them = match paths.place(cgroup) {
            Place::Gone => true,
            Place::Unseen(_) => false,
            Place::At(path) => match index.owner(&index.at(&path)) {
                Owner::Nobody => true,
                Owner::App { name, named: _ } => moved.app_ids.contains_key(&name),
                Owner::Contested(_) => false,
            },
        };
        if !stays_among_them {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The only app to which a table gives a cgroup.
fn owner_of(index: &CgroupIndex, below: &Path) -> Option<String> {
    match index.owner(&index.at(below)) {
        Owner::App { name, named: _ } => Some(name),
        Owner::Nobody | Owner::Contested(_) => None,
    }
}
