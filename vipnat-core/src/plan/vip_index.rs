//! Finds the VIPs of an app, and the entries of a VIP.

use std::{collections::BTreeMap, iter, net::Ipv4Addr};

use rustc_hash::FxHashMap;
use vipnat_common::{AppId, Range, VipKey};

use super::entries::is_head;

/// The VIPs that have entries, by app and VIP. Each has its limited entries, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VipIndex(BTreeMap<(AppId, Ipv4Addr), Vec<VipKey>>);

impl VipIndex {
    /// The index of these entries.
    pub(super) fn new(entries: &FxHashMap<VipKey, Range>) -> Self {
        // The map is made faster from sorted elements.
        let mut vips: Vec<_> = entries.keys().map(|key| (name(key), Vec::new())).collect();
        vips.sort_unstable_by_key(|(name, _)| *name);
        let mut index = Self(vips.into_iter().collect());
        entries.keys().filter(|key| !is_head(key)).for_each(|key| index.insert(*key));
        index
    }

    /// Adds an entry, which may be there.
    pub(super) fn insert(&mut self, key: VipKey) {
        let limited = self.0.entry(name(&key)).or_default();
        if is_head(&key) {
            return;
        }
        if let Err(place) = limited.binary_search_by_key(&limits(&key), limits) {
            limited.insert(place, key);
        }
    }

    /// Removes an entry, which may be missing. `has_head`: its VIP has a head entry now.
    pub(super) fn remove(&mut self, key: &VipKey, has_head: bool) {
        if let Some(limited) = self.0.get_mut(&name(key)) {
            limited.retain(|other| other != key);
            if limited.is_empty() && !has_head {
                self.0.remove(&name(key));
            }
        }
    }

    /// The VIPs of an app.
    pub(super) fn of_app(&self, app_id: AppId) -> impl Iterator<Item = Ipv4Addr> {
        let all = (app_id, Ipv4Addr::UNSPECIFIED)..=(app_id, Ipv4Addr::BROADCAST);
        self.0.range(all).map(|((_, vip), _)| *vip)
    }

    /// The limited entries of a VIP.
    pub(super) fn limited(&self, name: (AppId, Ipv4Addr)) -> &[VipKey] {
        self.0.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The keys that a VIP may have entries for: its head, and its limited entries.
    pub(super) fn keys(&self, name: (AppId, Ipv4Addr)) -> impl Iterator<Item = VipKey> {
        let head = VipKey::head(name.0, name.1.octets());
        iter::once(head).chain(self.limited(name).iter().copied())
    }
}

fn name(key: &VipKey) -> (AppId, Ipv4Addr) {
    (key.app_id(), key.vip.into())
}

fn limits(key: &VipKey) -> (u16, u8) {
    (key.port, key.protocol as u8)
}
