//! Attaches apps to cgroups.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use aya::programs::{CgroupAttachMode, links::FdLink};
use vipnat_common::{AppId, hooks::HOOKS};
use vipnat_core::text::shown_name;

use super::{
    app::{AttachedApp, PinnedApp},
    on_cgroup::attached_program,
};
use crate::{
    kernel::{
        error::{Attempt as _, Error, Result},
        maps::Switch,
        pinned_programs::open_program,
        pins::APPS,
    },
    state::{
        app_dirs::{dir_name, links_name},
        state_dir::StateDir,
    },
};

/// Makes the directory of an app, which reserves its app id, and reads the app.
pub(crate) fn reserve(dir: &StateDir, app_id: AppId, name: &str) -> Result<AttachedApp> {
    let path = dir.path().join(APPS).join(dir_name(app_id, name));
    fs::create_dir_all(&path).attempt(|| format!("make {}", path.display()))?;
    PinnedApp::list(path, app_id, name.to_owned())?.read()
}

/// Gives the links that one app has on a cgroup to another app. The links stay attached; only the switch
/// decides which app owns the cgroup.
pub(crate) fn hand_over(from: &AttachedApp, to: &AttachedApp, cgroup: u64) -> Result<()> {
    let links = from.links(cgroup);
    fs::rename(&links, to.links(cgroup)).attempt(|| format!("rename {}", links.display()))
}

/// Records that `vipnat attach` gave the cgroup to the app, before it has links there.
pub(crate) fn claim(app: &AttachedApp, cgroup: u64) -> Result<()> {
    let claimed = app.dir.join(links_name(cgroup, true));
    let links = app.links(cgroup);
    if links.try_exists().attempt(|| format!("read {}", links.display()))? {
        // The table may name the cgroup as well. The claim stays if the table drops it.
        return fs::rename(&links, &claimed).attempt(|| format!("rename {}", links.display()));
    }
    fs::create_dir_all(&claimed).attempt(|| format!("make {}", claimed.display()))
}

/// Attaches an app to a cgroup, and turns its translation on there.
///
/// Links that exist stay as they are. A cgroup must never have two links of one hook: the second program
/// would see the backend that the first one wrote, and take it for a direct connection.
pub(crate) fn attach(
    dir: &StateDir,
    switch: &Switch,
    app: &AttachedApp,
    cgroup: u64,
    path: &Path,
) -> Result<()> {
    let directory = File::open(path).attempt(|| format!("open {}", path.display()))?;
    let opened = directory.metadata().attempt(|| format!("read {}", path.display()))?;
    if opened.ino() != cgroup {
        return Err(went_away(app, path));
    }
    // Make the directory first: it shows later commands that the switch may be on for this cgroup.
    let links = app.links(cgroup);
    fs::create_dir_all(&links).attempt(|| format!("make {}", links.display()))?;
    // Set the switch before the links: the storage of a cgroup outlives its links, and new ones would see
    // the id of an earlier app. Set it again after them, because only links create the storage.
    switch.set(cgroup, app.app_id)?;
    for (hook, attach_type) in HOOKS {
        let pin = links.join(hook);
        if attached_program(&pin, cgroup, attach_type)?.is_some() {
            continue;
        }
        let _ = fs::remove_file(&pin);
        let mut program = open_program(dir.path(), hook)?;
        let what = || {
            format!(
                "attach {hook} to {0} (another program may allow no others there or above; as root \
                 vipnat names it, and so does: bpftool cgroup tree)",
                shown_name(path)
            )
        };
        // For links, "single" means no flags. Links always run beside other programs.
        let link = program.attach(&directory, CgroupAttachMode::Single).attempt(what)?;
        let link = program.take_link(link).attempt(what)?;
        let link = FdLink::try_from(link).attempt(what)?;
        link.pin(&pin).attempt(|| format!("pin {}", pin.display()))?;
    }
    if switch.set(cgroup, app.app_id)? { Ok(()) } else { Err(went_away(app, path)) }
}

fn went_away(app: &AttachedApp, path: &Path) -> Error {
    Error::CgroupGone { app: app.name.clone(), cgroup: path.to_owned() }
}
