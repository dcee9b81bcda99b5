//! What the agent knows of the state that its last change left.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use vipnat_common::AppId;
use vipnat_core::{
    model::NameIndex,
    plan::LiveMaps,
    table::{ServiceUsers, Table},
};

use crate::{
    kernel::{compat, error::Result, maps::Maps, pinned_ids::PinnedIds},
    reconcile::apply::Left,
    state::state_dir::{Generation, StateDir},
};

/// The state after the last change, as a process knows it without reading it back.
///
/// It is right as long as no other process changes the state. Another vipnat that does is noticed before each
/// change. The writes of any other program are noticed at the next review.
pub struct Live {
    pub(super) maps: Maps,
    /// The content of the maps.
    pub(super) content: LiveMaps,
    /// The names in the name index.
    pub(super) names: NameIndex,
    /// Whether its file has them.
    pub(super) names_saved: bool,
    /// The VIPs that lead to each service.
    pub(super) users: ServiceUsers,
    /// The app id of each app.
    pub(super) app_ids: BTreeMap<String, AppId>,
    /// The apps that are not as the table says, because of a failure.
    pub(super) unsettled: BTreeSet<String>,
    pub(super) generation: Generation,
    /// The slots that are being reclaimed, if any are.
    pub(super) reclaiming: Option<Arc<()>>,
    /// The pinned objects.
    pub(super) pins: PinnedIds,
}

impl Live {
    /// The state that the apply of a table left. `None` if another process has changed it meanwhile, or the
    /// maps are not sound.
    pub(crate) fn new(table: &Table, left: Left) -> Option<Self> {
        let Left { maps, snapshot, names, names_saved, app_ids, unsettled, generation, pins } =
            left;
        let content = LiveMaps::new(snapshot);
        Some(Self {
            maps,
            content: Some(content).filter(LiveMaps::is_tidy)?,
            names,
            names_saved,
            users: ServiceUsers::of(table),
            app_ids,
            unsettled,
            generation: generation?,
            reclaiming: None,
            pins,
        })
    }

    /// Whether there are retired slots that can be used again.
    pub fn has_retired(&self) -> bool {
        self.content.resting() > 0
    }

    /// The id of an app.
    pub(crate) fn app_id(&self, name: &str) -> Option<AppId> {
        self.app_ids.get(name).copied()
    }

    /// Whether the state is still the one that this value knows.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        self.lock(path).is_ok_and(|dir| dir.is_some())
    }

    /// Opens and locks the state, if it is still the one that this value knows.
    pub(super) fn lock(&self, path: &Path) -> Result<Option<StateDir>> {
        let Some(dir) = StateDir::open_again(path)? else {
            return Ok(None);
        };
        // The maps are the pinned ones if the generation is the same.
        let same = dir.generation()? == Some(self.generation);
        Ok((same && compat::is_of_this_build(self.maps.layout()?)).then_some(dir))
    }
}
