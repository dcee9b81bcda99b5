//! Apps in the state directory: their links, and the switch that turns their translation on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use aya::programs::{CgroupAttachMode, links::FdLink};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    error::{Attempt as _, Error, Result},
    maps::Maps,
    object::{HOOKS, program},
    state_dir::{StateDir, names, remove_tree},
    sys,
};

/// The directory of apps.
const APPS: &str = "apps";

/// What a link is called while the one it replaces is still there.
const NEW: &str = "-new";

/// What may stand in a file name as it is. bpffs refuses dots (`bpf_lookup` in kernel/bpf/inode.c).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'@').remove(b'+');

/// An app as the state directory has it.
#[derive(Clone, Debug)]
pub(super) struct AttachedApp {
    /// Its name.
    pub(super) name: String,
    /// Its number in the maps.
    pub(super) scope: u32,
    dir: PathBuf,
    /// The cgroup each pinned link is attached to, 0 if that is gone; by file name.
    links: BTreeMap<String, u64>,
}

impl AttachedApp {
    /// The live cgroups that it has links on: one, but for a crash or a move.
    pub(super) fn cgroups(&self) -> BTreeSet<u64> {
        self.links.values().copied().filter(|cgroup| *cgroup != 0).collect()
    }

    /// Whether every hook is attached to this cgroup, and nothing else is left of the app.
    pub(super) fn is_attached_to(&self, cgroup: u64) -> bool {
        self.links.len() == HOOKS.len()
            && HOOKS.iter().all(|(hook, _)| self.links.get(*hook) == Some(&cgroup))
    }
}

/// Reads the apps of a state directory, by scope.
pub(super) fn read(dir: &StateDir) -> Result<Vec<AttachedApp>> {
    let apps = dir.path().join(APPS);
    let mut all = Vec::new();
    for file in names(&apps)? {
        let Some((scope, name)) = parse_dir_name(&file) else {
            return Err(Error::Unsupported(format!(
                "{} is not vipnat's; remove it",
                apps.join(file).display()
            )));
        };
        all.push(read_app(apps.join(&file), scope, name)?);
    }
    all.sort_by_key(|app| app.scope);
    Ok(all)
}

fn read_app(dir: PathBuf, scope: u32, name: String) -> Result<AttachedApp> {
    let mut links = BTreeMap::new();
    for link in names(&dir)? {
        let pin = dir.join(&link);
        let info = sys::cgroup_link(&pin).attempt(|| format!("read {}", pin.display()))?;
        links.insert(link, info.cgroup);
    }
    Ok(AttachedApp { name, scope, dir, links })
}

/// Reserves a scope for an app that has none yet.
pub(super) fn reserve(dir: &StateDir, scope: u32, name: &str) -> Result<AttachedApp> {
    let path = dir.path().join(APPS).join(dir_name(scope, name));
    fs::create_dir_all(&path).attempt(|| format!("make {}", path.display()))?;
    read_app(path, scope, name.to_owned())
}

/// Attaches an app to a cgroup, turns its translation on there, and off wherever else it was.
///
/// Links it has on the cgroup stay as they are. New ones are complete and switched on before old
/// ones go, so an app that moves between cgroups is translated in both for a moment.
pub(super) fn attach(
    dir: &StateDir,
    maps: &Maps,
    app: &AttachedApp,
    cgroup: u64,
    path: &Path,
) -> Result<()> {
    // The storage of a cgroup outlives its links: a link to one that was another app's would see
    // that app's scope.
    maps.set_scope(cgroup, app.scope)?;
    let directory = File::open(path).attempt(|| format!("open {}", path.display()))?;
    for (hook, kind) in HOOKS {
        let new = format!("{hook}{NEW}");
        if app.links.get(hook) == Some(&cgroup) || app.links.get(&new) == Some(&cgroup) {
            continue;
        }
        let pin = app.dir.join(new);
        let _ = fs::remove_file(&pin);
        let mut program = program(dir.path(), hook, kind)?;
        let what = || format!("attach {hook} to {}", path.display());
        // As a link, so "single" means no flags; links are always beside what others attached.
        let link = program.attach(&directory, CgroupAttachMode::Single).attempt(what)?;
        let link = program.take_link(link).attempt(what)?;
        let link = FdLink::try_from(link).attempt(what)?;
        link.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
    }
    if !maps.set_scope(cgroup, app.scope)? {
        return Err(Error::Unsupported(format!(
            "app {:?}: cgroup {} went away while it was attached; apply again",
            app.name,
            path.display()
        )));
    }
    turn_off(maps, app, Some(cgroup))?;
    for (hook, _) in HOOKS {
        let new = app.dir.join(format!("{hook}{NEW}"));
        if new.exists() {
            // The old link, if any, goes with its name.
            let pin = app.dir.join(hook);
            fs::rename(&new, &pin).attempt(|| format!("rename {}", new.display()))?;
        }
    }
    Ok(())
}

/// Turns an app's translation off and removes its links.
pub(super) fn detach(maps: &Maps, app: &AttachedApp) -> Result<()> {
    turn_off(maps, app, None)?;
    remove_tree(&app.dir)
}

fn turn_off(maps: &Maps, app: &AttachedApp, except: Option<u64>) -> Result<()> {
    for cgroup in app.cgroups() {
        // Unless it belongs to another app by now.
        if Some(cgroup) != except && maps.scope(cgroup)? == Some(app.scope) {
            maps.set_scope(cgroup, 0)?;
        }
    }
    Ok(())
}

fn dir_name(scope: u32, name: &str) -> String {
    format!("{scope}:{}", utf8_percent_encode(name, PLAIN))
}

fn parse_dir_name(file: &str) -> Option<(u32, String)> {
    let (scope, name) = file.split_once(':')?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    Some((scope.parse().ok()?, name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_app_name_is_a_file_name_on_bpffs(scope: u32, name in "\\PC{1,21}") {
            let file = dir_name(scope, &name);
            proptest::prop_assert!(file.len() < 255 && !file.contains(['.', '/']), "{}", file);
            proptest::prop_assert_eq!(parse_dir_name(&file), Some((scope, name)));
        }
    }

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(dir_name(1, "shop"), "1:shop");
        assert_eq!(dir_name(12, "lxc.shop-2"), "12:lxc%2Eshop-2");
    }
}
