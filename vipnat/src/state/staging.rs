//! Maps and programs put in place: a complete set is made beside those in force, and renamed.

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

/// What there is of the pinned maps and programs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing that counts.
    Absent,
    /// Maps and programs of this very build.
    Current,
    /// Maps of this layout, programs of another build.
    OtherBuild,
    /// Maps of another layout; what differs.
    OtherLayout(String),
}

/// Looks at what is pinned.
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

/// Pins maps and programs where there are none.
///
/// They are pinned in a directory of their own that is renamed when it is complete; the maps come
/// last, so if they are there, everything is.
pub(crate) fn install(dir: &StateDir, capacity: Capacity) -> Result<()> {
    let path = dir.path();
    // What a crash in the middle of the following left. Links without these maps know nothing.
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

/// Maps and programs that are loaded and pinned beside those in force.
pub(crate) struct Staged {
    path: PathBuf,
}

impl Staged {
    /// Loads the object, with those of the pinned maps that are named instead of new ones, which are
    /// made so large, and pins all of it below `new`.
    pub(crate) fn load(dir: &StateDir, kept: &[&'static str], capacity: Capacity) -> Result<Self> {
        preflight::check(Privilege::Load)?;
        dir.remove(NEW)?;
        preflight::check_features()
            .attempt(|| "load the eBPF object into the kernel".to_owned())?;
        let path = dir.path().join(NEW);
        loader::load_into(&path, dir.path(), kept, capacity)?;
        Ok(Self { path })
    }

    /// The directory that has them.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what these maps are, and who made the programs.
    pub(crate) fn stamp(&self, build: [u8; 4], last_app: u32) -> Result<()> {
        write_layout(&self.path, Layout { version: LAYOUT, build, last_app })
    }
}

/// Whether the maps are pinned, and so everything is.
///
/// # Errors
///
/// If that can't be told: what is there must not be taken for missing.
pub(crate) fn exists(dir: &StateDir) -> Result<bool> {
    let maps = dir.path().join(MAPS);
    maps.try_exists().attempt(|| format!("read {}", maps.display()))
}
