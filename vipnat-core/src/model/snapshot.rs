//! The present contents of the maps `vips` and `backends`.
//!
//! `FxHashMap` finds entries by key. With 60,000 entries, the standard map takes three times as long to fill
//! (7.7 ms, not 2.6), and makes [`Desired`](super::Desired) 21 % slower (medians of 15 paired runs).

use std::{collections::BTreeMap, net::Ipv4Addr};

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;
use vipnat_common::{AppId, Range, Slot, SlotFlags, VipKey};

use super::{
    capacity::Capacity,
    mapping::{Backend, Mapping},
};

/// The contents of the maps `vips` and `backends` at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The slots of each entry.
    pub entries: FxHashMap<VipKey, Range>,
    /// All slots by index; `None` for free ones.
    pub slots: Vec<Option<Slot>>,
    /// The sizes of the maps.
    pub capacity: Capacity,
}

impl Snapshot {
    /// The contents of new maps.
    pub fn fresh(capacity: Capacity) -> Self {
        let slots = vec![None; capacity.backends as usize];
        Self { entries: FxHashMap::default(), slots, capacity }
    }

    /// A snapshot from the slots alone. It is right only if no change was interrupted: then each list of
    /// slots that are not retired belongs to an entry.
    pub fn of_slots(slots: Vec<Option<Slot>>, capacity: Capacity) -> Self {
        let mut entries = FxHashMap::default();
        let used = slots.iter().flatten().filter(|slot| !slot.has(SlotFlags::RETIRED)).count();
        entries.reserve(used);
        let mut last: Option<(VipKey, Range)> = None;
        for (index, slot) in (0..).zip(&slots) {
            let Some(slot) = slot.filter(|slot| !slot.has(SlotFlags::RETIRED)) else {
                continue;
            };
            match &mut last {
                Some((owner, range))
                    if *owner == slot.owner && range.first + range.count == index =>
                {
                    range.count += 1;
                }
                last => {
                    let list = (slot.owner, Range { first: index, count: 1 });
                    entries.extend(last.replace(list));
                }
            }
        }
        entries.extend(last);
        Self { entries, slots, capacity }
    }

    /// Moves the contents to larger maps.
    pub fn grow(&mut self, capacity: Capacity) {
        assert!(capacity.backends as usize >= self.slots.len());
        self.slots.resize(capacity.backends as usize, None);
        self.capacity = capacity;
    }

    /// The slots of an entry. `None` if there is no such entry, or if slots have another owner, which only
    /// another program can have caused.
    pub fn slots_of(&self, key: &VipKey) -> Option<impl Iterator<Item = Slot>> {
        self.slots_in(*self.entries.get(key)?, key)
    }

    /// The slots of an entry whose range is known.
    pub fn slots_in(&self, range: Range, key: &VipKey) -> Option<impl Iterator<Item = Slot>> {
        let Range { first, count } = range;
        let list = self.slots.get(first as usize..first.checked_add(count)? as usize)?;
        let own = list.iter().all(|slot| slot.is_some_and(|slot| slot.owner == *key));
        (own && !list.is_empty()).then(|| list.iter().flatten().copied())
    }

    /// The first slot of an entry.
    fn first_of(&self, key: &VipKey) -> Option<Slot> {
        self.slots_of(key)?.next()
    }

    /// The cursor of a VIP, if it has an entry.
    pub fn cursor_of(&self, app_id: AppId, vip: Ipv4Addr) -> Option<u32> {
        self.first_of(&VipKey::head(app_id, vip.octets())).map(|slot| slot.cursor)
    }

    /// The cursor that a slot names. `None` for emptied slots, and for the number of a cursor beyond the map,
    /// which only another program can have written.
    pub fn named_cursor(&self, slot: &Slot) -> Option<u32> {
        (*slot != Slot::EMPTIED && slot.cursor < self.capacity.cursors).then_some(slot.cursor)
    }

    /// The slots that no entry points to. If one is not [`SlotFlags::RETIRED`], a change was interrupted.
    pub fn leftover(&self) -> impl Iterator<Item = (u32, Slot)> {
        let mut used = FixedBitSet::with_capacity(self.slots.len());
        let lead_to = self.entries.values().copied().flat_map(indices);
        lead_to.for_each(|index| used.grow_and_insert(index as usize));
        let slots = (0..).zip(&self.slots).filter_map(|(index, slot)| Some((index, (*slot)?)));
        slots.filter(move |(index, _)| !used.contains(*index as usize))
    }

    /// The number of elements in use.
    pub fn in_use(&self) -> Capacity {
        let heads = self.entries.keys().filter(|key| **key == VipKey::head(key.app_id(), key.vip));
        Capacity {
            vips: self.entries.len() as u32,
            backends: self.entries.values().map(|range| range.count).sum(),
            cursors: heads.count() as u32,
        }
    }

    /// All mappings, by app and VIP.
    #[cfg(test)]
    pub fn mappings(&self) -> BTreeMap<(AppId, Ipv4Addr), Mapping> {
        let by_app = ByApp::new(self);
        self.mappings_by(&by_app.0)
            .map(|mapping| ((mapping.app_id, mapping.vip), mapping))
            .collect()
    }

    /// The mappings of some entries, which are sorted, and complete for each VIP.
    fn mappings_by<'a>(&'a self, keys: &'a [VipKey]) -> impl Iterator<Item = Mapping> + 'a {
        let vips = keys.chunk_by(|a, b| (a.app_id(), a.vip) == (b.app_id(), b.vip));
        // The head comes first. Without it, there is no mapping.
        vips.filter_map(|of_vip| {
            let [head, limited @ ..] = of_vip else { return None };
            self.mapping_of(head.app_id(), head.vip.into(), limited.last())
        })
    }

    /// The mappings of some VIPs of apps, by app and VIP.
    pub fn mappings_of(
        &self,
        names: impl Iterator<Item = (AppId, Ipv4Addr)>,
    ) -> BTreeMap<(AppId, Ipv4Addr), Mapping> {
        let mut mappings = BTreeMap::new();
        let mut limited = BTreeMap::new();
        for (app_id, vip) in names {
            let head = VipKey::head(app_id, vip.octets());
            if self.first_of(&head).is_some_and(|slot| slot.has(SlotFlags::LIMITED)) {
                limited.insert((app_id, vip), None::<&VipKey>);
            } else if let Some(mapping) = self.mapping_of(app_id, vip, None) {
                mappings.insert((app_id, vip), mapping);
            }
        }
        if !limited.is_empty() {
            let limits = |key: &VipKey| (key.port, key.protocol as u8);
            let is_head = |key: &VipKey| *key == VipKey::head(key.app_id(), key.vip);
            for key in self.entries.keys().filter(|key| !is_head(key)) {
                if let Some(last) = limited.get_mut(&(key.app_id(), key.vip.into())) {
                    *last = last.take().into_iter().chain([key]).max_by_key(|key| limits(key));
                }
            }
            for ((app_id, vip), key) in limited {
                let mapping = self.mapping_of(app_id, vip, key);
                mappings.extend(mapping.map(|mapping| ((app_id, vip), mapping)));
            }
        }
        mappings
    }

    /// The mapping of a VIP. `limited`: the last of its limited entries.
    ///
    /// It decides like the hooks: if the head is not limited, limited entries, which an interrupted change may
    /// have left, do not count. Without a head, the hooks never reach them.
    pub fn mapping_of(
        &self,
        app_id: AppId,
        vip: Ipv4Addr,
        limited: Option<&VipKey>,
    ) -> Option<Mapping> {
        let head = VipKey::head(app_id, vip.octets());
        match self.first_of(&head) {
            Some(slot) if slot.has(SlotFlags::LIMITED) => Some(self.mapping(limited?)),
            None if !self.entries.contains_key(&head) => None,
            _ => Some(self.mapping(&head)),
        }
    }

    /// The mapping of an entry.
    fn mapping(&self, key: &VipKey) -> Mapping {
        let VipKey { app: _, vip, port, protocol, reserved: _ } = *key;
        let slots = self.slots_of(key).into_iter().flatten();
        let reachable = slots.filter(|slot| !slot.has(SlotFlags::UNREACHABLE));
        let turns = reachable.map(|slot| Backend { ip: slot.ip.into(), port: slot.port }).collect();
        let flags = self.first_of(key).map_or(SlotFlags::empty(), |slot| slot.flags());
        let (select, udp_pinning) = Mapping::choices(flags);
        Mapping {
            app_id: key.app_id(),
            vip: vip.into(),
            port,
            protocol,
            turns,
            select,
            udp_pinning,
        }
    }
}

/// The keys of a snapshot, sorted by app, then by VIP.
#[derive(Clone, Debug, Default)]
pub struct ByApp(Vec<VipKey>);

impl ByApp {
    /// Sorts the keys of a snapshot.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut keys: Vec<_> = snapshot.entries.keys().copied().collect();
        keys.sort_unstable_by_key(|key| (key.app_id(), key.vip, key.port, key.protocol as u8));
        Self(keys)
    }

    /// The mappings of an app, in the order of VIPs.
    pub fn mappings_of<'a>(
        &'a self,
        app_id: AppId,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = Mapping> + 'a {
        let Self(keys) = self;
        let first = keys.partition_point(|key| key.app_id() < app_id);
        let end = keys.partition_point(|key| key.app_id() <= app_id);
        snapshot.mappings_by(&keys[first..end])
    }
}

/// The indices of the slots in a range.
pub fn indices(range: Range) -> std::ops::Range<u32> {
    range.first..range.first.saturating_add(range.count)
}
