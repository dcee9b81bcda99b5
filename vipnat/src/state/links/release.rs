//! Detaches apps from cgroups, and removes them.

use vipnat_common::AppId;
use vipnat_core::model::Place;

use super::{app::AttachedApp, on_cgroup::link_ids};
use crate::{
    kernel::{cgroup::Paths, error::Result, maps::Switch},
    state::remove::{remove_tree, remove_tree_but},
};

/// Turns an app's translation off on a cgroup, and removes its links there. The switch stays if another
/// app owns the cgroup by now.
pub(crate) fn release(switch: &Switch, app: &AttachedApp, cgroup: u64) -> Result<()> {
    if switch.app_of(cgroup)? == Some(app.app_id) {
        switch.set(cgroup, AppId::NONE)?;
    }
    remove_tree(&app.links(cgroup))
}

/// Releases a directory that does not count. A link that the cgroup's owner has pinned too stays attached:
/// another program may have pinned it twice.
pub(crate) fn release_stray(
    switch: &Switch,
    stray: &AttachedApp,
    cgroup: u64,
    owner: Option<&AttachedApp>,
) -> Result<()> {
    if switch.app_of(cgroup)? == Some(stray.app_id) {
        switch.set(cgroup, AppId::NONE)?;
    }
    let stay = owner.map_or(Vec::new(), |owner| link_ids(&owner.links(cgroup)));
    remove_tree_but(&stray.links(cgroup), &stay)
}

/// Removes an app's links on removed cgroups. It looks only for cgroups none of whose links is attached.
pub(crate) fn release_gone(switch: &Switch, app: &AttachedApp, paths: &Paths) -> Result<()> {
    let gone = app
        .cgroups
        .iter()
        .filter(|(cgroup, links)| links.orphaned() && paths.place(**cgroup) == Place::Gone);
    gone.map(|(cgroup, _)| *cgroup).try_for_each(|cgroup| release(switch, app, cgroup))
}

/// Removes all of an app's links.
pub(crate) fn release_all(switch: &Switch, app: &AttachedApp) -> Result<()> {
    app.cgroups().try_for_each(|cgroup| release(switch, app, cgroup))
}

/// Removes the directory of an app, which frees its app id. No entry of the maps may have that id.
pub(crate) fn remove(app: &AttachedApp) -> Result<()> {
    remove_tree(&app.dir)
}
