//! Taking over what another build left, without a moment in which nothing translates.
//!
//! What the pins say is what counts, and links are brought to it afterwards, each by one swap of its
//! program: if it ends anywhere in between, the next `apply` finds links that run other programs than
//! those pinned, and swaps them ([`apps::swap_programs`](super::apps::swap_programs)).

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

/// No build: while programs are replaced, and if that is interrupted, they are nobody's.
const NOBODY: [u8; 4] = [0; 4];

/// The maps that outlive a change of layout: open sockets have their records in `conns` and
/// `udp_flows`, and attached cgroups have their storage in `scope`.
const CARRIED: [&str; 4] = ["scope", "conns", "udp_flows", "counters"];

/// Puts this build's programs in the place of those pinned. They use the same maps.
pub(crate) fn replace_programs(dir: &StateDir) -> Result<()> {
    let staged = Staged::load(dir, &MAP_NAMES, Capacity::MIN)?;
    disown(dir.path())?;
    put_in_place(dir, &staged, PROGRAMS)?;
    stamp(dir.path(), build())?;
    dir.remove(NEW)
}

/// Puts maps of this layout, and programs that use them, in the place of those pinned. `fill` writes
/// into the new maps what they are to hold, so whichever program a connect runs, its maps are whole.
/// Returns what gets lost.
pub(crate) fn migrate(
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
            // Attached cgroups have this map's storage, and programs would read past its end.
            Some(what) if name == "scope" => {
                return Err(Error::Layout { dir: dir.path().to_owned(), what });
            }
            Some(what) if name == "counters" => lost.push(format!("counters start anew: {what}")),
            Some(what) => lost.push(format!(
                "sockets that are connected through a VIP now show the backend as their peer: {what}"
            )),
        }
    }
    // If it can't be read, it is at least this.
    let highest = apps.iter().map(|app| app.app_id.0).max().unwrap_or(0);
    let last_app = pinned_layout(dir.path())?.map_or(highest, |layout| layout.last_app);

    let staged = Staged::load(dir, &kept, capacity)?;
    let filled = staged
        .stamp(build(), last_app.max(highest))
        .and_then(|()| fill(&Maps::open(staged.path())?));
    if filled.is_err() {
        // Nobody uses them, and they may be large.
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

/// The pinned programs may be another build's than the layout map says, until it is stamped again.
fn disown(path: &Path) -> Result<()> {
    if pinned_layout(path)?.is_some() { stamp(path, NOBODY) } else { Ok(()) }
}

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
