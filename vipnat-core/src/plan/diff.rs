//! Compares the maps with the mappings that they should hold. The difference is the list of writes.

use std::{collections::BTreeMap, net::Ipv4Addr};

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashSet;
use vipnat_common::{AppId, Range, Slot, SlotFlags, VipKey};

use super::{
    alloc::{FreeCursors, FreeSlots},
    entries::{keys_in_order, sort_removals},
};
use crate::model::{Capacity, MapFull, Mapping, Snapshot, indices};

type Result<T> = std::result::Result<T, MapFull>;

/// The writes that turn one table into another. [`Plan::steps`] puts them in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// New slot lists, in free slots.
    pub slots: Vec<(u32, Slot)>,
    /// Entries, each with the range of its new slot list.
    pub switches: Vec<(VipKey, Range)>,
    /// Entries to remove.
    pub removals: Vec<VipKey>,
    /// Slots of old slot lists, with the values that mark them as retired.
    pub retired: Vec<(u32, Slot)>,
}

impl Plan {
    /// The writes that give the apps in `app_ids` these mappings and nothing else. `now` must be tidy:
    /// each of its [`Snapshot::leftover`] slots is retired.
    ///
    /// # Errors
    ///
    /// [`MapFull`] if a map is too small. Slots that this plan retires do not count as free:
    /// readers may still use them while vipnat writes the new lists.
    pub fn new(
        now: &Snapshot,
        mappings: &[Mapping],
        app_ids: impl Fn(AppId) -> bool,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut free = None;
        let mut cursors = None;
        let (mut kept, mut new_entries) = (0, 0);
        let mut given = FixedBitSet::with_capacity(now.capacity.cursors as usize);
        for mapping in mappings {
            let head = VipKey::head(mapping.app_id, mapping.vip.octets());
            let head = (head, now.entries.get(&head));
            let first = head.1.and_then(|range| now.slots_in(*range, &head.0)?.next());
            // Another program may have written a cursor that does not exist, so that no connect would get a
            // turn. It may also have written the cursor of another VIP.
            let known = |slot: &Slot| {
                slot.cursor < now.capacity.cursors && !given.contains(slot.cursor as usize)
            };
            let cursor = match first.filter(known) {
                Some(slot) => slot.cursor,
                None => cursors.get_or_insert_with(|| FreeCursors::new(now)).take()?,
            };
            given.insert(cursor as usize);
            for key in keys_in_order(mapping) {
                let old = if key == head.0 { head.1 } else { now.entries.get(&key) };
                if old.is_some() {
                    kept += 1;
                } else {
                    new_entries += 1;
                }
                let slots = old.and_then(|range| now.slots_in(*range, &key));
                if slots.is_some_and(|slots| slots.eq(mapping.slots(key, cursor))) {
                    continue;
                }
                let count = mapping.slots(key, cursor).count();
                let range = free.get_or_insert_with(|| FreeSlots::new(now)).take(count)?;
                plan.slots.extend(indices(range).zip(mapping.slots(key, cursor)));
                plan.switches.push((key, range));
                plan.retire(now, &key, old);
            }
        }
        // vipnat writes new entries before it removes old ones, so removals make no room.
        let free_entries = (now.capacity.vips as usize).saturating_sub(now.entries.len());
        if new_entries > free_entries {
            return Err(MapFull {
                map: "vips",
                needed: new_entries,
                free: Some(free_entries),
                limit: now.capacity.vips,
            });
        }
        if kept < now.entries.len() {
            let wanted: FxHashSet<_> = mappings.iter().flat_map(Mapping::keys).collect();
            let entries = now.entries.iter();
            let gone = entries.filter(|(key, _)| app_ids(key.app_id()) && !wanted.contains(key));
            for (key, range) in gone {
                plan.removals.push(*key);
                plan.retire(now, key, Some(range));
            }
        }
        sort_removals(&mut plan.removals);
        // Another program may have pointed two entries to one slot.
        plan.retired.sort_by_key(|(index, _)| *index);
        plan.retired.dedup();
        Ok(plan)
    }

    /// How large the maps must be to carry out this plan.
    pub fn capacity_needed(&self, now: &Snapshot) -> Capacity {
        let Capacity { vips, backends, cursors } = now.in_use();
        let new = self.switches.iter().filter(|(key, _)| !now.entries.contains_key(key));
        let is_head = |key: &VipKey| *key == VipKey::head(key.app_id(), key.vip);
        let new_heads = new.clone().filter(|(key, _)| is_head(key)).count() as u32;
        Capacity {
            vips: vips + new.count() as u32,
            backends: backends.saturating_add(self.slots.len() as u32),
            cursors: cursors + new_heads,
        }
    }

    /// Retires the slots of an entry, but only those that it owns. Another program may have pointed the entry
    /// to slots of other entries.
    fn retire(&mut self, now: &Snapshot, key: &VipKey, range: Option<&Range>) {
        let slots = range.copied().into_iter().flat_map(indices);
        let slots = slots.filter_map(|index| Some((index, (*now.slots.get(index as usize)?)?)));
        let own = slots.filter(|(_, slot)| slot.owner == *key);
        self.retired.extend(own.map(retired));
    }

    /// The same plan, but the app ids that are `held` keep their entries and slots.
    pub fn holding_back(&self, now: &Snapshot, held: impl Fn(AppId) -> bool) -> Self {
        let mut plan = self.clone();
        let kept: Vec<_> = plan.removals.extract_if(.., |key| held(key.app_id())).collect();
        let slots = kept.iter().filter_map(|key| now.entries.get(key)).copied().flat_map(indices);
        let slots: FxHashSet<_> = slots.collect();
        plan.retired.retain(|(index, _)| !slots.contains(index));
        plan
    }

    /// Retires the slots that an interrupted command left without an entry, and changes nothing else.
    pub fn tidy(now: &Snapshot) -> Self {
        let abandoned = now.leftover().filter(|(_, slot)| !slot.has(SlotFlags::RETIRED));
        Self { retired: abandoned.map(retired).collect(), ..Self::default() }
    }
}

fn retired((index, slot): (u32, Slot)) -> (u32, Slot) {
    (index, slot.retired())
}

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
    let keys = plan.switches.iter().map(|(key, _)| key).chain(&plan.removals);
    let touched: FxHashSet<_> = keys.map(|key| (key.app_id(), Ipv4Addr::from(key.vip))).collect();
    if touched.is_empty() {
        return Vec::new();
    }
    let mut old = now.mappings_of(touched.iter().copied());
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
