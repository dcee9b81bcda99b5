//! Copies the state for commands that only read, and keeps other commands waiting as little as possible.
//!
//! `vipnat attach` needs the lock of the state directory before a container can start. A reader therefore
//! holds the lock only while it copies the maps, the names and the list of the apps' directories. It reads
//! links without the lock, because each cgroup has seven. Paths of cgroups and output come later still.

use std::collections::BTreeSet;

use super::context::Context;
use crate::{
    kernel::{error::Result, maps::Maps},
    state::links::{self, AttachedApp, PinnedApp},
};

/// The number of times a reader tries to copy the state if it changes meanwhile. In its last try it keeps
/// the lock until it has read all links.
const TRIES: usize = 3;

/// The number of apps that a reader checks again each time it takes the lock.
const AT_ONCE: usize = 32;

/// The state at one moment.
pub(crate) struct StateCopy<T> {
    /// The part of the maps that the reader asked for.
    pub(crate) copied: T,
    /// The maps.
    pub(crate) maps: Maps,
    /// The apps, by app id.
    pub(crate) apps: Vec<AppState>,
}

/// An app, and the cgroups in which it is translated.
pub(crate) struct AppState {
    /// The app.
    pub(crate) app: AttachedApp,
    /// The ids of its cgroups in which every hook is attached and switched on.
    pub(crate) active: BTreeSet<u64>,
}

impl AppState {
    /// Finds in the map `scope` where the app is switched on.
    pub(crate) fn new(app: AttachedApp, maps: &Maps) -> Result<Self> {
        Ok(Self { active: app.active(maps.cgroups())?, app })
    }
}

/// Reads the apps, and the part of the maps that `copy` copies; `None` if nothing is applied.
///
/// An app may change while its links are read. If the links of a cgroup are there and switched on, the app
/// was certainly translated in it. If they are not, the reader may have seen a change half-way. So it looks
/// again with the lock, and accepts the result only if it finds the same.
pub(crate) fn copy_state<T>(
    context: &Context,
    copy: impl Fn(&Maps) -> Result<T>,
) -> Result<Option<StateCopy<T>>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Some((dir, maps)) = context.open()? else {
            return Ok(None);
        };
        let (copied, listed) = (copy(&maps)?, links::list(&dir)?);
        let kept = (tries == TRIES).then_some(dir);
        let read = |app: &PinnedApp| AppState::new(app.read()?, &maps);
        let apps: Vec<_> = listed.iter().map(read).collect::<Result<_>>()?;
        if kept.is_some() || is_unchanged(context, &maps, &apps)? {
            return Ok(Some(StateCopy { copied, maps, apps }));
        }
    }
}

/// Whether apps that were not translated in all of their cgroups are still in the same state.
fn is_unchanged(context: &Context, maps: &Maps, apps: &[AppState]) -> Result<bool> {
    let incomplete: Vec<_> = apps
        .iter()
        .filter(|AppState { app, active }| app.cgroups().count() != active.len())
        .collect();
    for some in incomplete.chunks(AT_ONCE) {
        let Some(_dir) = context.open()? else {
            return Ok(false);
        };
        for AppState { app, active } in some {
            let again = AppState::new(app.again()?, maps)?;
            if again.app != *app || again.active != *active {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
