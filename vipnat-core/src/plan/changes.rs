//! The mappings that a plan changes, for people.

use std::{collections::BTreeMap, net::Ipv4Addr};

use rustc_hash::FxHashSet;
use vipnat_common::AppId;

use super::diff::Plan;
use crate::model::{Mapping, Mappings, Snapshot};

/// A mapping that a plan changes, in the form that vipnat prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingChange {
    /// The app.
    pub app_id: AppId,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The mapping before; `None` if the VIP is new.
    pub old: Option<Mapping>,
    /// The mapping from now on; `None` if the plan removes the VIP.
    pub new: Option<Mapping>,
}

/// The mappings that a plan changes, by app and VIP.
pub fn changes(now: &Snapshot, mappings: &[Mapping], plan: &Plan) -> Vec<MappingChange> {
    changes_from(mappings, plan, |touched| now.mappings_of(touched.iter().copied()))
}

/// [`changes`], with the present mappings of the VIPs that the plan touches.
pub(super) fn changes_from(
    mappings: &[Mapping],
    plan: &Plan,
    old: impl FnOnce(&FxHashSet<(AppId, Ipv4Addr)>) -> Mappings,
) -> Vec<MappingChange> {
    let keys = plan.switches.iter().map(|(key, _)| key).chain(&plan.removals);
    let touched: FxHashSet<_> = keys.map(|key| (key.app_id(), Ipv4Addr::from(key.vip))).collect();
    if touched.is_empty() {
        return Vec::new();
    }
    let mut old = old(&touched);
    let new = mappings.iter().filter(|new| touched.contains(&(new.app_id, new.vip)));
    let mut new: BTreeMap<_, _> = new.map(|new| ((new.app_id, new.vip), new.clone())).collect();
    let mut touched: Vec<_> = touched.into_iter().collect();
    touched.sort_unstable();
    let change = |(app_id, vip)| {
        let (old, new) = (old.remove(&(app_id, vip)), new.remove(&(app_id, vip)));
        (old != new).then_some(MappingChange { app_id, vip, old, new })
    };
    touched.into_iter().filter_map(change).collect()
}
