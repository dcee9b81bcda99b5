//! Which backends a change of the table takes away, and what becomes of what is connected to them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};
use vipnat_common::Flow;

use super::{
    Change,
    rule::{Rule, Turn},
};
use crate::{
    record::Record,
    table::{OnBackendRemoved, Relationship, Table},
};

/// A backend that a VIP no longer leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// The app.
    pub app: String,
    /// The relationship, if its name is known.
    pub relationship: Option<String>,
    /// The number of the app in the maps.
    pub scope: u32,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The backend.
    #[serde(flatten)]
    pub backend: Turn,
}

/// The rules of all VIPs, by app and VIP.
pub(super) type Rules = BTreeMap<(u32, Ipv4Addr), Rule>;

impl Departed {
    /// Whether a flow was led to the backend, and is led there by no other turn of the VIP either.
    pub(super) fn was_given(&self, flow: &Flow, rules: &Rules) -> bool {
        let Self { app: _, relationship: _, scope, vip, backend } = self;
        let of_vip = flow.scope == *scope && flow.vip == vip.octets();
        let mut turns = rules.get(&(*scope, *vip)).into_iter().flat_map(|rule| &rule.turns);
        of_vip && backend.leads(flow) && !turns.any(|turn| turn.leads(flow))
    }

    /// Whether the VIP leads to the backend after all.
    pub(super) fn is_back(&self, rules: &Rules) -> bool {
        rules.get(&(self.scope, self.vip)).is_some_and(|rule| rule.turns.contains(&self.backend))
    }
}

/// The backends that some changes take away, where that is not without consequence. What that is, says
/// the table; if the relationship itself goes, the record of the table before.
///
/// `heirs` are the apps that get the cgroup of one that goes, by its name: that app has only got
/// another name, if the heir has the same VIP.
pub(super) fn departed(
    changes: &[Change],
    table: &Table,
    record: &Record,
    heirs: &HashMap<&str, &str>,
) -> Vec<(Departed, OnBackendRemoved)> {
    let mut all = Vec::new();
    for change in changes {
        let Change::Vip { app, relationship, vip, old: Some(old), new: _ } = change else {
            continue;
        };
        let owner =
            if table.apps.contains_key(app) { Some(&app.as_str()) } else { heirs.get(&**app) };
        let next = owner.and_then(|app| relationship_of(table, app, *vip));
        let service = next.map(|next| &table.services[&next.service]);
        let known = || record.names(app, *vip).map(|names| names.on_backend_removed);
        let policy = service.map(|service| service.on_backend_removed).or_else(known);
        let policy = policy.unwrap_or_default();
        if policy == OnBackendRemoved::Keep {
            continue;
        }
        let backends = service.into_iter().flat_map(|service| &service.backends);
        let stay: HashSet<_> = backends.map(Turn::from).collect();
        let left = old.backends().into_iter().filter(|(turn, _)| !stay.contains(turn));
        all.extend(left.map(|(backend, _)| {
            let (app, relationship) = (app.clone(), relationship.clone());
            (Departed { app, relationship, scope: old.scope, vip: *vip, backend }, policy)
        }));
    }
    all
}

fn relationship_of<'a>(table: &'a Table, app: &str, vip: Ipv4Addr) -> Option<&'a Relationship> {
    table.apps.get(app)?.relationships.values().find(|relationship| relationship.vip == vip)
}

#[cfg(test)]
mod tests;
