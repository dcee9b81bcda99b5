//! Finds the VIPs of an app, and the entries of a VIP.

use std::{collections::BTreeSet, iter, net::Ipv4Addr};

use rustc_hash::FxHashMap;
use vipnat_common::{AppId, Range, VipKey};

use super::entries::is_head;

/// A VIP of an app.
type Name = (AppId, Ipv4Addr);

/// The VIPs that have entries, and their limited entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VipIndex {
    vips: BTreeSet<Name>,
    /// Sorted for each VIP, and never empty.
    limited: FxHashMap<Name, Vec<VipKey>>,
}

impl VipIndex {
    /// The index of these entries.
    pub(super) fn new(entries: &FxHashMap<VipKey, Range>) -> Self {
        let vips = entries.keys().map(name).collect();
        let mut index = Self { vips, limited: FxHashMap::default() };
        entries.keys().for_each(|key| index.insert_limited(*key));
        index
    }

    /// Adds an entry, which is new.
    pub(super) fn insert(&mut self, key: VipKey) {
        self.vips.insert(name(&key));
        self.insert_limited(key);
    }

    fn insert_limited(&mut self, key: VipKey) {
        if !is_head(&key) {
            let limited = self.limited.entry(name(&key)).or_default();
            limited.push(key);
            limited.sort_unstable_by_key(|key| (key.port, key.protocol as u8));
        }
    }

    /// Removes an entry. `has_head`: its VIP has a head entry now.
    pub(super) fn remove(&mut self, key: &VipKey, has_head: bool) {
        let name = name(key);
        if let Some(limited) = self.limited.get_mut(&name) {
            limited.retain(|other| other != key);
            if limited.is_empty() {
                self.limited.remove(&name);
            }
        }
        if !has_head && !self.limited.contains_key(&name) {
            self.vips.remove(&name);
        }
    }

    /// The VIPs of an app, sorted.
    pub(super) fn of_app(&self, app_id: AppId) -> impl Iterator<Item = Ipv4Addr> {
        let all = (app_id, Ipv4Addr::UNSPECIFIED)..=(app_id, Ipv4Addr::BROADCAST);
        self.vips.range(all).map(|(_, vip)| *vip)
    }

    /// The limited entries of a VIP, sorted.
    pub(super) fn limited(&self, name: Name) -> &[VipKey] {
        self.limited.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The keys that a VIP may have entries for: its head, and its limited entries.
    pub(super) fn keys(&self, name: Name) -> impl Iterator<Item = VipKey> {
        let head = VipKey::head(name.0, name.1.octets());
        iter::once(head).chain(self.limited(name).iter().copied())
    }
}

fn name(key: &VipKey) -> Name {
    (key.app_id(), key.vip.into())
}
