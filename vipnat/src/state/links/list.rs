//! Reads the apps of a state directory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use vipnat_common::AppId;

use super::{
    app::{AttachedApp, PinnedApp},
    on_cgroup::{Links, not_our_dir},
};
use crate::{
    kernel::{
        dir_names::names,
        error::{Attempt as _, Error, Result},
        pins::APPS,
    },
    state::{
        app_dirs::{dir_name, links_name, parse_dir_name, parse_links_name},
        state_dir::StateDir,
    },
};

/// Lists the apps of a state directory in the order of their ids, without their links.
pub(crate) fn list(dir: &StateDir) -> Result<Vec<PinnedApp>> {
    let apps = dir.path().join(APPS);
    let mut all = Vec::new();
    for file in names(&apps)? {
        let path = apps.join(&file);
        let (app_id, name) = parse_dir_name(&file).ok_or_else(|| not_our_dir(&path))?;
        all.push(PinnedApp::list(path, app_id, name)?);
    }
    all.sort_by_key(|app| app.app_id);
    Ok(all)
}

/// Reads an app by its name. There is more than one directory only if another program made it.
pub(crate) fn find(dir: &StateDir, name: &str) -> Result<Vec<AttachedApp>> {
    let apps = dir.path().join(APPS);
    let mut all = Vec::new();
    for file in names(&apps)? {
        match parse_dir_name(&file) {
            Some((app_id, found)) if found == name => {
                all.push(PinnedApp::list(apps.join(file), app_id, found)?.read()?);
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Picks one directory for each app name, and for each app id. Several exist only if another program made
/// them; then the one with more complete cgroups counts.
pub(crate) fn current(attached: &[AttachedApp]) -> HashMap<&str, &AttachedApp> {
    let mut candidates: Vec<_> = attached.iter().filter(|app| app.is_at_home()).collect();
    let whole = |app: &AttachedApp| app.cgroups.values().filter(|links| links.complete()).count();
    candidates.sort_by_cached_key(|app| (Reverse(whole(app)), app.app_id));
    let mut app_ids = HashSet::new();
    let mut current = HashMap::new();
    for app in candidates {
        if !current.contains_key(app.name.as_str()) && app_ids.insert(app.app_id) {
            current.insert(app.name.as_str(), app);
        }
    }
    current
}

/// The error that no app has this name. It lists the apps that are applied.
pub(crate) fn unknown(dir: Option<&StateDir>, name: &str) -> Error {
    let files = dir.map(|dir| names(&dir.path().join(APPS))).and_then(Result::ok);
    let known = files.into_iter().flatten();
    let known: Vec<_> = known.filter_map(|file| Some(parse_dir_name(&file)?.1)).collect();
    Error::UnknownApp { app: name.to_owned(), applied: known }
}

/// Reads the apps of a state directory in the order of their ids, with all links.
pub(crate) fn read(dir: &StateDir) -> Result<Vec<AttachedApp>> {
    list(dir)?.iter().map(PinnedApp::read).collect()
}

/// The names and ids of all apps.
pub(crate) fn app_ids(dir: &StateDir) -> Result<Vec<(String, AppId)>> {
    let files = names(&dir.path().join(APPS))?;
    let all = files.iter().filter_map(|file| parse_dir_name(file));
    Ok(all.map(|(app_id, name)| (name, app_id)).collect())
}

/// Reads an app by its id and name; `None` if there is no such app.
pub(crate) fn read_app(dir: &StateDir, app_id: AppId, name: &str) -> Result<Option<AttachedApp>> {
    let path = dir.path().join(APPS).join(dir_name(app_id, name));
    if !path.try_exists().attempt(|| format!("read {}", path.display()))? {
        return Ok(None);
    }
    PinnedApp::list(path, app_id, name.to_owned())?.read().map(Some)
}

/// The ids of the cgroups on which an app has links, by their names alone.
pub(crate) fn cgroups_of(dir: &StateDir, app_id: AppId, name: &str) -> Result<Vec<u64>> {
    let path = dir.path().join(APPS).join(dir_name(app_id, name));
    Ok(names(&path)?.iter().filter_map(|file| Some(parse_links_name(file)?.0)).collect())
}

/// Lists one app, without its links; it has no cgroups if it was removed.
pub(crate) fn list_one(state: &Path, app_id: AppId, name: &str) -> Result<PinnedApp> {
    PinnedApp::list(state.join(APPS).join(dir_name(app_id, name)), app_id, name.to_owned())
}

/// Reads an app with its links in one directory only, which need not exist.
pub(crate) fn read_links(
    state: &Path,
    app_id: AppId,
    name: &str,
    (cgroup, by_hand): (u64, bool),
) -> Result<AttachedApp> {
    let dir = state.join(APPS).join(dir_name(app_id, name));
    let links = Links::read(dir.join(links_name(cgroup, by_hand)), cgroup, by_hand)?;
    Ok(AttachedApp { name: name.to_owned(), app_id, dir, cgroups: [(cgroup, links)].into() })
}

/// Reads an app with its links on one cgroup only; `None` if there is no such app.
pub(crate) fn read_one(
    dir: &StateDir,
    app_id: AppId,
    name: &str,
    cgroup: u64,
) -> Result<Option<AttachedApp>> {
    let dir = dir.path().join(APPS).join(dir_name(app_id, name));
    let exists = |path: &Path| path.try_exists().attempt(|| format!("read {}", path.display()));
    if !exists(&dir)? {
        return Ok(None);
    }
    let mut cgroups = BTreeMap::new();
    for by_hand in [false, true] {
        let links = dir.join(links_name(cgroup, by_hand));
        if exists(&links)? {
            cgroups.insert(cgroup, Links::read(links, cgroup, by_hand)?);
        }
    }
    Ok(Some(AttachedApp { name: name.to_owned(), app_id, dir, cgroups }))
}
