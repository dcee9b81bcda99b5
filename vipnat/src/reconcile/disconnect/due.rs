//! The pending disconnects that are due, found by the records of sockets.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
};

use vipnat_common::{AppId, ConnRecord};
use vipnat_core::model::Mappings;

use crate::state::pending_disconnects::PendingDisconnect;

/// Backends whose connections should end now. The place of each is its index.
pub(crate) struct Due {
    pub(crate) drains: Vec<PendingDisconnect>,
    /// The places for each VIP of an app.
    places: HashMap<(AppId, Ipv4Addr), Vec<usize>>,
}

impl Due {
    /// Makes the index.
    pub(crate) fn new(drains: Vec<PendingDisconnect>) -> Self {
        let mut places: HashMap<_, Vec<_>> = HashMap::new();
        for (place, PendingDisconnect { removed, .. }) in drains.iter().enumerate() {
            places.entry((removed.app_id, removed.vip)).or_default().push(place);
        }
        Self { drains, places }
    }

    /// The cgroups of the disconnects at some places.
    pub(crate) fn cgroups(&self, places: impl Iterator<Item = usize>) -> Vec<PathBuf> {
        let places: BTreeSet<_> = places.collect();
        let mut seen = BTreeSet::new();
        let all = places.into_iter().flat_map(|place| &self.drains[place].cgroups);
        all.filter(|cgroup| seen.insert(*cgroup)).cloned().collect()
    }
}

/// The disconnects that are still due at one moment.
pub(crate) struct StillDue {
    /// By place.
    pub(crate) is_due: Vec<bool>,
    /// The mappings of their VIPs.
    pub(crate) mappings: Mappings,
}

impl StillDue {
    /// The place of the backend to which a socket with this record is connected, if its disconnect is still
    /// due.
    pub(crate) fn place(&self, due: &Due, record: &ConnRecord) -> Option<usize> {
        let places = due.places.get(&(record.app_id(), record.vip.into()))?;
        places.iter().copied().find(|place| {
            self.is_due[*place] && due.drains[*place].removed.was_given(record, &self.mappings)
        })
    }
}
