//! Makes a complete set of maps and programs beside those in force, and renames it into place.

use std::{
    fs,
    path::{Path, PathBuf},
};

use vipnat_common::abi::{LAYOUT, Layout};
use vipnat_core::model::Capacity;

use super::state_dir::StateDir;
use crate::kernel::{
    compat::{difference, pinned_layout, write_layout},
    error::{Attempt as _, Result},
    loader::{self, build},
    pins::{APPS, MAPS, NEW, PROGRAMS},
    preflight::{self, Privilege},
};

/// The condition of the pinned maps and programs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There are no maps.
    Absent,
    /// Maps and programs of this build.
    Current,
    /// Maps of this layout, programs of another build.
    OtherBuild,
    /// Maps of another layout, with the difference.
    OtherLayout(String),
}

/// Compares the pinned maps and programs with this build.
pub(crate) fn condition(dir: &StateDir) -> Result<Condition> {
    if !exists(dir)? {
        return Ok(Condition::Absent);
    }
    if let Some(what) = difference(dir.path())? {
        return Ok(Condition::OtherLayout(what));
    }
    let layout = pinned_layout(dir.path())?;
    let current = layout.is_some_and(|layout| layout.build == build());
    Ok(if current { Condition::Current } else { Condition::OtherBuild })
}

/// Pins maps and programs in a state directory that has none.
///
/// It pins them in the directory `new`, and renames that directory's parts when they are complete. The maps
/// come last: if they are there, everything is.
pub(crate) fn install(dir: &StateDir, capacity: Capacity) -> Result<()> {
    let path = dir.path();
    // Remove the leftovers of a crash in the middle of the steps below. Links without these maps are useless.
    for name in [PROGRAMS, APPS] {
        dir.remove(name)?;
    }
    let new = Staged::load(dir, &[], capacity)?;
    new.stamp(build(), 0)?;
    for name in [PROGRAMS, MAPS] {
        fs::rename(new.path.join(name), path.join(name))
            .attempt(|| format!("rename {}", new.path.join(name).display()))?;
    }
    dir.remove(NEW)
}

/// Maps and programs that are pinned beside those in force.
pub(crate) struct Staged {
    path: PathBuf,
}

impl Staged {
    /// Loads the object and pins its maps and programs below `new`. It keeps the pinned maps named in `kept`;
    /// the others are new, and as large as `capacity` says.
    pub(crate) fn load(dir: &StateDir, kept: &[&'static str], capacity: Capacity) -> Result<Self> {
        preflight::check(Privilege::Load)?;
        dir.remove(NEW)?;
        preflight::check_features()
            .attempt(|| "load the eBPF object into the kernel".to_owned())?;
        let path = dir.path().join(NEW);
        loader::load_into(&path, dir.path(), kept, capacity)?;
        Ok(Self { path })
    }

    /// The directory of these maps and programs.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the layout version, the build of the programs, and the highest app id ever given.
    pub(crate) fn stamp(&self, build: [u8; 4], last_app: u32) -> Result<()> {
        write_layout(&self.path, Layout { version: LAYOUT, build, last_app })
    }
}

/// Whether the maps are pinned, and so the whole state.
///
/// # Errors
///
/// That is unknown: existing maps must not count as missing.
pub(crate) fn exists(dir: &StateDir) -> Result<bool> {
    let maps = dir.path().join(MAPS);
    maps.try_exists().attempt(|| format!("read {}", maps.display()))
}
