//! Checks that vipnat made all entries of a state directory.

use std::path::{Path, PathBuf};

use vipnat_common::hooks::is_hook;

use super::app_dirs::parse_dir_name;
use crate::kernel::{
    dir_names::names,
    error::Result,
    pins::{APPS, CHANGED, CHANGING, LAYOUT_MAP, MAPS, NEW, PROGRAMS, is_map},
};

/// The whole path of an entry that vipnat did not make, if there is one.
///
/// Beside a layout map, any map and program counts as vipnat's, perhaps of a later build. Without one, their
/// names must be those that an interrupted command of this build or of layout 3 leaves.
pub(super) fn unexpected_entry(path: &Path) -> Result<Option<String>> {
    let vouched = [path.join(MAPS), path.join(NEW).join(MAPS)]
        .iter()
        .any(|maps| maps.join(LAYOUT_MAP).exists());
    let hook = |name: &str| vouched || is_hook(name);
    let map = |name: &str| vouched || is_map(name) || [CHANGING, CHANGED].contains(&name);
    let app = |name: &str| parse_dir_name(name).is_some();
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
