//! The state that a change starts from, and the table that the kernel follows now.

use std::collections::BTreeMap;

use vipnat_core::model::{ByApp, Desired, DesiredApp, NameIndex, Place, Snapshot};

use super::{
    context::Context,
    state_copy::{AppState, StateCopy, copy_state},
};
use crate::{
    kernel::{
        cgroup::Paths,
        error::Result,
        foreign_programs::Others,
        maps::{Copied, Maps, Switch},
    },
    state::{links::AttachedApp, name_index},
};

/// The state that a change starts from.
///
/// Maps, links and names are copies. Facts about single cgroups are read only when they are needed: there may
/// be thousands of cgroups, and a small change needs few.
pub(crate) struct Observed<'a> {
    /// The content of the maps.
    pub(crate) snapshot: Snapshot,
    /// The apps, or only those that a change touches.
    pub(crate) apps: ObservedApps<'a>,
}

/// Apps with their links, and what decides over attaching them.
#[derive(Clone, Copy)]
pub(crate) struct ObservedApps<'a> {
    /// The apps with their links, by app id.
    pub(crate) attached: &'a [AttachedApp],
    /// The names that the last change recorded.
    pub(crate) names: &'a NameIndex,
    /// The highest app id that was ever given.
    pub(crate) last_app: u32,
    /// The app to which each cgroup is switched; `None` if there is no such map yet.
    pub(crate) switch: Option<&'a Switch>,
    /// The cgroups, and the programs of others on them.
    pub(crate) others: &'a Others<'a>,
}

impl Observed<'_> {
    /// The same state with another content of the maps.
    pub(crate) fn with_snapshot(&self, snapshot: Snapshot) -> Self {
        Self { snapshot, apps: self.apps }
    }
}

/// Copies maps and names, for commands that only read.
pub(crate) fn copy_maps_and_names(
    context: &Context,
) -> Result<Option<StateCopy<(Copied, NameIndex)>>> {
    copy_state(context, |maps: &Maps| Ok((maps.copy()?, name_index::load(&context.dir))))
}

/// The table that the kernel follows now.
pub(crate) fn current(context: &Context) -> Result<Desired> {
    let Some(state) = copy_maps_and_names(context)? else {
        return Ok(Desired::default());
    };
    let StateCopy { copied: (copied, names), apps, maps: _ } = state;
    let paths = Paths::of(&context.tree()?);
    desired_of_kernel(&copied.snapshot()?, &apps, &paths, names)
}

/// The table that these apps and this content of the maps amount to.
pub(crate) fn desired_of_kernel(
    snapshot: &Snapshot,
    states: &[AppState],
    paths: &Paths,
    names: NameIndex,
) -> Result<Desired> {
    let mut apps = BTreeMap::new();
    let by_app = ByApp::new(snapshot);
    for AppState { app, active } in states {
        let mappings = by_app.mappings_of(app.app_id, snapshot).collect();
        let (mut cgroups, mut may_have_unseen) = (BTreeMap::new(), false);
        for id in active {
            match paths.place(*id) {
                Place::At(path) => drop(cgroups.insert(*id, path)),
                Place::Unseen(_) => may_have_unseen = true,
                Place::Gone => {}
            }
        }
        let named = cgroups.keys().copied().collect();
        let by_hand = app.by_hand().collect();
        let app_now = DesiredApp { mappings, cgroups, named, by_hand, may_have_unseen };
        apps.insert(app.name.clone(), app_now);
    }
    Ok(Desired { apps, names })
}
