//! The backends that a change of the table removes, and the policy for their connections.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};
use vipnat_common::{AppId, ConnRecord};

use super::{
    change::Change,
    desired::Desired,
    mapping::{Backend, Mapping},
    names::NameIndex,
};
use crate::table::OnBackendRemoved;

/// A backend that a VIP of an app no longer leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedBackend {
    /// The app.
    pub app: String,
    /// The relationship, if its name is known.
    pub relationship: Option<String>,
    /// The id of the app in the maps.
    #[serde(rename = "scope")]
    pub app_id: AppId,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The backend.
    #[serde(flatten)]
    pub backend: Backend,
}

/// The mappings of all VIPs, by app and VIP.
pub type Mappings = BTreeMap<(AppId, Ipv4Addr), Mapping>;

impl RemovedBackend {
    /// Whether a socket with this record is connected to the backend, and no present turn of the VIP leads there.
    pub fn was_given(&self, record: &ConnRecord, mappings: &Mappings) -> bool {
        let Self { app: _, relationship: _, app_id, vip, backend } = self;
        let of_vip = record.app_id() == *app_id && record.vip == vip.octets();
        let mut turns =
            mappings.get(&(*app_id, *vip)).into_iter().flat_map(|mapping| &*mapping.turns);
        of_vip && backend.leads(record) && !turns.any(|turn| turn.leads(record))
    }

    /// Whether the VIP leads to the backend again.
    pub fn is_back(&self, mappings: &Mappings) -> bool {
        mappings
            .get(&(self.app_id, self.vip))
            .is_some_and(|mapping| mapping.turns.contains(&self.backend))
    }
}

/// The backends that some changes remove, each with its policy, unless this is to keep connections.
///
/// The policy comes from the names of the desired state. If the relationship itself is removed, it comes from
/// `record`, the names of the state before.
///
/// `heirs` has, for each removed app, the app that gets its cgroup. If the heir has the same VIP, the app was
/// only renamed.
pub fn removed_backends(
    changes: &[Change],
    desired: &Desired,
    record: &NameIndex,
    heirs: &HashMap<&str, &str>,
) -> Vec<(RemovedBackend, OnBackendRemoved)> {
    let mut all = Vec::new();
    for change in changes {
        let Change::Vip { app, relationship, vip, old: Some(old), new: _ } = change else {
            continue;
        };
        let owner = owner(app, desired, heirs);
        let policy = policy(owner, app, *vip, desired, record).unwrap_or_default();
        if policy == OnBackendRemoved::Keep {
            continue;
        }
        let next = owner.and_then(|app| mapping_of(desired, app, *vip));
        let stay: HashSet<_> = next.into_iter().flat_map(|mapping| &*mapping.turns).collect();
        let left = old.backends().into_iter().filter(|(turn, _)| !stay.contains(turn));
        all.extend(left.map(|(backend, _)| {
            let (app, relationship) = (app.clone(), relationship.clone());
            (RemovedBackend { app, relationship, app_id: old.app_id, vip: *vip, backend }, policy)
        }));
    }
    all
}

/// The number of VIPs that lose backends and have no known policy: neither in the names of the desired state
/// nor in `record`, those of the state before.
pub fn vips_without_policy(
    changes: &[Change],
    desired: &Desired,
    record: &NameIndex,
    heirs: &HashMap<&str, &str>,
) -> usize {
    let without = changes.iter().filter(|change| {
        let Change::Vip { app, vip, old: Some(old), .. } = change else {
            return false;
        };
        let owner = owner(app, desired, heirs);
        !old.turns.is_empty() && policy(owner, app, *vip, desired, record).is_none()
    });
    without.count()
}

/// The app that a VIP belongs to after the change: the app itself, or its heir.
fn owner<'a>(app: &'a str, desired: &Desired, heirs: &HashMap<&str, &'a str>) -> Option<&'a str> {
    if desired.apps.contains_key(app) { Some(app) } else { heirs.get(app).copied() }
}

fn policy(
    owner: Option<&str>,
    app: &str,
    vip: Ipv4Addr,
    desired: &Desired,
    record: &NameIndex,
) -> Option<OnBackendRemoved> {
    let known = owner.and_then(|app| desired.names.names(app, vip));
    Some(known.or_else(|| record.names(app, vip))?.on_backend_removed)
}

fn mapping_of<'a>(desired: &'a Desired, app: &str, vip: Ipv4Addr) -> Option<&'a Mapping> {
    desired.apps.get(app)?.mappings.iter().find(|mapping| mapping.vip == vip)
}

#[cfg(test)]
mod tests;
