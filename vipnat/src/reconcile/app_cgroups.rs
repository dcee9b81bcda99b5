//! Finds the cgroups of an app, and the app of a cgroup.

use std::path::Path;

use vipnat_core::model::Place;

use super::{context::Context, outcome::LiveCgroups};
use crate::{
    kernel::{
        cgroup::Paths,
        error::Result,
        preflight::{self, Privilege},
    },
    state::links,
};

/// See [`Session::cgroups_of`](super::Session::cgroups_of).
pub(crate) fn cgroups_of(context: &Context, name: &str) -> Result<LiveCgroups> {
    preflight::check(Privilege::UsePins)?;
    let Some((dir, maps)) = context.open()? else {
        return Err(links::unknown(None, name));
    };
    // An app has few links, so this reads them while the state is locked.
    let Some(app) = links::find(&dir, name)?.into_iter().next() else {
        return Err(links::unknown(Some(&dir), name));
    };
    let active = app.active(maps.cgroups())?;
    drop(dir);
    let tree = context.tree()?;
    let paths = Paths::of(&tree);
    let mut live = LiveCgroups::default();
    for id in active {
        match paths.place(id) {
            Place::At(path) => live.paths.push(tree.mount().join(path)),
            Place::Unseen(_) => {
                live.unseen = Some(paths.reason().map(ToString::to_string).unwrap_or_default());
            }
            Place::Gone => {}
        }
    }
    live.paths.sort();
    Ok(live)
}

/// See [`Session::app_at`](super::Session::app_at).
pub(crate) fn app_at(context: &Context, path: &Path) -> Result<Option<String>> {
    preflight::check(Privilege::UsePins)?;
    let Some((dir, maps)) = context.open()? else {
        return Ok(None);
    };
    let tree = context.tree()?;
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
        // Without links, no program reads the map `scope`.
        if links::read_one(&dir, app.app_id, &app.name, cgroup)?
            .is_some_and(|app| app.is_attached_to(cgroup))
        {
            return Ok(Some(app.name.clone()));
        }
    }
    Ok(None)
}
