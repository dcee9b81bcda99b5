//! Replaces the pinned programs, or programs and maps, while translation goes on.
//!
//! The pins are authoritative. Each link gets the pinned program after them, in one step. If a command is
//! interrupted in between, the next `apply` finds links that run other programs than the pinned ones. It
//! then swaps these programs ([`links::swap_programs`](crate::state::links::swap_programs)).

use std::{fs, path::Path};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use vipnat_common::abi::Layout;

use crate::{
    kernel::{
        compat::{map_difference, pinned_layout, write_layout},
        error::{Attempt as _, Error, Result},
        loader::build,
        maps::Maps,
        pins::{MAP_NAMES, MAPS, NEW, PROGRAMS, carried_pin},
    },
    state::{links::AttachedApp, staging::Staged, state_dir::StateDir},
};
use vipnat_core::model::Capacity;

/// The build id during a program swap. If the swap is interrupted, the next apply sees it and repeats the
/// swap.
const NO_BUILD: [u8; 4] = [0; 4];

/// The maps that stay when the layout changes. Open sockets have their records in `conns` and
/// `udp_flows`, and attached cgroups have their storage in `scope`.
const CARRIED: [&str; 4] = ["scope", "conns", "udp_flows", "counters"];

/// Replaces the pinned programs by those of this build. They use the same maps.
pub(crate) fn replace_programs(dir: &StateDir) -> Result<()> {
    let staged = Staged::load(dir, &MAP_NAMES, Capacity::MIN)?;
    disown(dir.path())?;
    put_in_place(dir, &staged, PROGRAMS)?;
    stamp(dir.path(), build())?;
    dir.remove(NEW)
}

/// Replaces the pinned maps by maps of this layout, and the programs by some that use them. `fill` writes
/// the content of the new maps before they are pinned, so each program finds complete maps. Returns the
/// losses.
pub(crate) fn install_maps(
    dir: &StateDir,
    apps: &[AttachedApp],
    capacity: Capacity,
    fill: impl FnOnce(&Maps) -> Result<()>,
) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    for name in CARRIED {
        match map_difference(&carried_pin(dir.path(), name), name)? {
            None => kept.push(name),
            // Attached cgroups keep the storage of this map. New programs would read past its end.
            Some(what) if name == "scope" => {
                return Err(Error::Layout { dir: dir.path().to_owned(), what });
            }
            Some(what) if name == "counters" => lost.push(format!("counters start anew: {what}")),
            Some(what) => lost.push(format!(
                "sockets that are connected through a VIP now show the backend as their peer: {what}"
            )),
        }
    }
    // If the layout map can't be read, the highest app id is at least that of the links.
    let highest = apps.iter().map(|app| app.app_id.0).max().unwrap_or(0);
    let last_app = pinned_layout(dir.path())?.map_or(highest, |layout| layout.last_app);

    let staged = Staged::load(dir, &kept, capacity)?;
    let filled = staged
        .stamp(build(), last_app.max(highest))
        .and_then(|()| fill(&Maps::open(staged.path())?));
    if filled.is_err() {
        // No program uses the staged maps, and they may be large.
        dir.remove(NEW)?;
    }
    filled?;
    disown(dir.path())?;
    put_in_place(dir, &staged, PROGRAMS)?;
    // From here on the state is of this layout.
    put_in_place(dir, &staged, MAPS)?;
    dir.remove(NEW)?;
    Ok(lost)
}

/// Notes in the layout map that the pinned programs may be of any build, until the next `stamp`.
fn disown(path: &Path) -> Result<()> {
    if pinned_layout(path)?.is_some() { stamp(path, NO_BUILD) } else { Ok(()) }
}

/// Notes the build of the pinned programs in the layout map.
fn stamp(path: &Path, build: [u8; 4]) -> Result<()> {
    match pinned_layout(path)? {
        Some(layout) => write_layout(path, Layout { build, ..layout }),
        None => Ok(()),
    }
}

/// Exchanges a directory of the state with the staged one (`simple_rename_exchange` in fs/libfs.c,
/// kernel 5.16).
fn put_in_place(dir: &StateDir, staged: &Staged, name: &str) -> Result<()> {
    let (new, old) = (staged.path().join(name), dir.path().join(name));
    match renameat2(AT_FDCWD, &new, AT_FDCWD, &old, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::ENOENT) if new.exists() => {
            fs::rename(&new, &old).attempt(|| format!("rename {}", new.display()))
        }
        other => other.attempt(|| format!("exchange {} and {}", new.display(), old.display())),
    }
}
