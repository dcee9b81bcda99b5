//! Compares the maps with the mappings that they should hold. The difference is the list of writes.

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashSet;
use vipnat_common::{AppId, Range, Slot, SlotFlags, VipKey};

use super::{
    alloc::{Allocator, Room},
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
        let mut planner = Planner::new(now);
        mappings.iter().try_for_each(|mapping| planner.add(mapping))?;
        planner.check_room()?;
        if planner.kept < now.entries.len() {
            let wanted: FxHashSet<_> = mappings.iter().flat_map(Mapping::keys).collect();
            let entries = now.entries.iter();
            let gone = entries.filter(|(key, _)| app_ids(key.app_id()) && !wanted.contains(key));
            gone.for_each(|(key, range)| planner.remove(key, *range));
        }
        Ok(planner.finish())
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
    fn retire(&mut self, now: &Snapshot, key: &VipKey, range: Range) {
        let slots = indices(range);
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

/// Makes a plan: first the mappings, then the entries to remove.
pub(super) struct Planner<'a, M> {
    maps: &'a M,
    plan: Plan,
    slots: Option<Allocator>,
    cursors: Option<Allocator>,
    /// The cursors of the mappings so far.
    given: FixedBitSet,
    /// The number of entries that stay, with their list or another one.
    kept: usize,
    new_entries: usize,
}

impl<'a, M: Room> Planner<'a, M> {
    /// A plan without any writes.
    pub(super) fn new(maps: &'a M) -> Self {
        let cursors = maps.contents().capacity.cursors as usize;
        Self {
            maps,
            plan: Plan::default(),
            slots: None,
            cursors: None,
            given: FixedBitSet::with_capacity(cursors),
            kept: 0,
            new_entries: 0,
        }
    }

    /// Gives a VIP this mapping.
    pub(super) fn add(&mut self, mapping: &Mapping) -> Result<()> {
        let now = self.maps.contents();
        let head = VipKey::head(mapping.app_id, mapping.vip.octets());
        let head = (head, now.entries.get(&head));
        let first = head.1.and_then(|range| now.slots_in(*range, &head.0)?.next());
        // Another program may have written a cursor that does not exist, so that no connect would get a
        // turn. It may also have written the cursor of another VIP.
        let known = |slot: &Slot| {
            slot.cursor < now.capacity.cursors
                && !self.given.contains(slot.cursor as usize)
                && !self.maps.is_shared(slot.cursor, &head.0)
        };
        let cursor = match first.filter(known) {
            Some(slot) => slot.cursor,
            None => {
                let new = || Allocator::new("cursors", self.maps.free_cursors());
                self.cursors.get_or_insert_with(new).take(1)?.first
            }
        };
        self.given.insert(cursor as usize);
        for key in keys_in_order(mapping) {
            let old = if key == head.0 { head.1 } else { now.entries.get(&key) };
            if old.is_some() {
                self.kept += 1;
            } else {
                self.new_entries += 1;
            }
            let slots = old.and_then(|range| now.slots_in(*range, &key));
            if slots.is_some_and(|slots| slots.eq(mapping.slots(key, cursor))) {
                continue;
            }
            let new = || Allocator::new("backends", self.maps.free_slots());
            let count = mapping.slots(key, cursor).count();
            let range = self.slots.get_or_insert_with(new).take(count)?;
            self.plan.slots.extend(indices(range).zip(mapping.slots(key, cursor)));
            self.plan.switches.push((key, range));
            if let Some(old) = old {
                self.plan.retire(now, &key, *old);
            }
        }
        Ok(())
    }

    /// Checks that there is room for all new entries. vipnat writes new entries before it removes old ones, so
    /// removals make no room.
    pub(super) fn check_room(&self) -> Result<()> {
        let Snapshot { entries, slots: _, capacity } = self.maps.contents();
        let free = (capacity.vips as usize).saturating_sub(entries.len());
        if self.new_entries > free {
            let (needed, free) = (self.new_entries, Some(free));
            return Err(MapFull { map: "vips", needed, free, limit: capacity.vips });
        }
        Ok(())
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &VipKey, range: Range) {
        self.plan.removals.push(*key);
        self.plan.retire(self.maps.contents(), key, range);
    }

    /// The plan, with its writes in their order.
    pub(super) fn finish(self) -> Plan {
        let Self { mut plan, .. } = self;
        sort_removals(&mut plan.removals);
        // Another program may have pointed two entries to one slot.
        plan.retired.sort_by_key(|(index, _)| *index);
        plan.retired.dedup();
        plan
    }
}
