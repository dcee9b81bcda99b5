//! Maps that vipnat follows in memory: a plan for a few VIPs looks at nothing else.

use std::{collections::BTreeSet, net::Ipv4Addr};

use rustc_hash::FxHashSet;
use vipnat_common::{AppId, Range, Slot, VipKey};

use super::{
    alloc::Room,
    changes::{MappingChange, changes_from},
    diff::{Plan, Planner},
    elements::Elements,
    reclaim::Reclaim,
    slot_use::SlotUse,
    vip_index::VipIndex,
};
use crate::model::{MapFull, Mapping, Mappings, Snapshot, indices};

/// A snapshot with indices, which follow each write.
///
/// [`execute`](super::execute()) the same steps on the maps of the kernel and on these. A change of a VIP then costs
/// the same for any number of other VIPs, but for a copy of two bit sets: one bit for each slot and cursor.
///
/// Other programs may have written into the maps before they were read. Plans then lead to the wanted mappings
/// as those of [`Plan::new`] do. If two VIPs have one cursor, both get new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMaps {
    now: Snapshot,
    slots: SlotUse,
    vips: VipIndex,
}

impl LiveMaps {
    /// Live maps with this content. It should be [tidy](LiveMaps::is_tidy): abandoned slots are never used
    /// again.
    pub fn new(now: Snapshot) -> Self {
        let (slots, vips) = (SlotUse::new(&now), VipIndex::new(&now.entries));
        Self { now, slots, vips }
    }

    /// The content.
    pub fn snapshot(&self) -> &Snapshot {
        &self.now
    }

    /// Whether each slot without an entry is retired or emptied. Otherwise a change was interrupted, or
    /// another program had pointed an entry to slots of others before a plan replaced it. [`Plan::tidy`] retires
    /// such slots.
    pub fn is_tidy(&self) -> bool {
        self.slots.abandoned == 0
    }

    /// The writes that give these VIPs these mappings. VIPs without a mapping are removed. All other VIPs
    /// stay. `mappings` are some of `vips`, at most one for each.
    ///
    /// # Errors
    ///
    /// Those of [`Plan::new`].
    pub fn plan(
        &self,
        vips: &BTreeSet<(AppId, Ipv4Addr)>,
        mappings: &[Mapping],
    ) -> Result<Plan, MapFull> {
        debug_assert!(mappings.iter().all(|new| vips.contains(&(new.app_id, new.vip))));
        let mut planner = Planner::new(self);
        mappings.iter().try_for_each(|mapping| planner.add(mapping))?;
        planner.check_room()?;
        let wanted: FxHashSet<_> = mappings.iter().flat_map(Mapping::keys).collect();
        let entries = vips.iter().flat_map(|name| self.entries_of(*name));
        let gone = entries.filter(|(key, _)| !wanted.contains(key));
        gone.for_each(|(key, range)| planner.remove(&key, range));
        Ok(planner.finish())
    }

    /// The mappings that a plan changes, by app and VIP.
    pub fn changes(&self, mappings: &[Mapping], plan: &Plan) -> Vec<MappingChange> {
        changes_from(mappings, plan, |touched| self.mappings_of(touched.iter().copied()))
    }

    /// The mappings of some VIPs of apps.
    pub fn mappings_of(&self, vips: impl IntoIterator<Item = (AppId, Ipv4Addr)>) -> Mappings {
        let mapping = |(app_id, vip)| {
            let limited = self.vips.limited((app_id, vip)).last();
            Some(((app_id, vip), self.now.mapping_of(app_id, vip, limited)?))
        };
        vips.into_iter().filter_map(mapping).collect()
    }

    /// The VIPs of an app, sorted.
    pub fn vips_of(&self, app_id: AppId) -> impl Iterator<Item = Ipv4Addr> {
        self.vips.of_app(app_id)
    }

    /// Whether an app has any entries.
    pub fn has_app(&self, app_id: AppId) -> bool {
        self.vips_of(app_id).next().is_some()
    }

    /// The slots and cursors that can be used again. It costs as much as there are retired slots, and two bits
    /// for each slot.
    pub fn reclaim(&self) -> Reclaim {
        let SlotUse { retired, emptied, .. } = &self.slots;
        let slot = |index: u32| Some((index, self.now.slots[index as usize]?));
        let retired = retired.iter().filter_map(slot).collect();
        let freed = emptied.iter().collect();
        Reclaim::of(&self.now, retired, freed, |cursor| self.slots.has_more(cursor, 0))
    }

    /// The number of slots that [`LiveMaps::reclaim`] empties or frees.
    pub fn resting(&self) -> usize {
        self.slots.resting
    }

    /// Fills, retires, empties or frees a slot.
    pub(super) fn set_slot(&mut self, index: u32, slot: Option<Slot>) {
        let old = std::mem::replace(&mut self.now.slots[index as usize], slot);
        self.slots.replace(index, old, slot, &self.now);
    }

    /// Points an entry to its slots.
    pub(super) fn set_entry(&mut self, key: VipKey, range: Range) {
        let old = self.now.entries.insert(key, range);
        if old.is_none() {
            self.vips.insert(key);
        }
        for (index, slot) in slots_in(&self.now, range) {
            self.slots.point(index, slot, &self.now);
        }
        self.unpoint(old);
    }

    /// Removes an entry, which may be missing.
    pub(super) fn remove_entry(&mut self, key: &VipKey) {
        let old = self.now.entries.remove(key);
        let head = VipKey::head(key.app_id(), key.vip);
        self.vips.remove(key, self.now.entries.contains_key(&head));
        self.unpoint(old);
    }

    fn unpoint(&mut self, old: Option<Range>) {
        for (index, slot) in old.into_iter().flat_map(|range| slots_in(&self.now, range)) {
            self.slots.unpoint(index, slot, &self.now);
        }
    }

    /// The entries of a VIP.
    fn entries_of(&self, name: (AppId, Ipv4Addr)) -> impl Iterator<Item = (VipKey, Range)> {
        self.vips.keys(name).filter_map(|key| Some((key, *self.now.entries.get(&key)?)))
    }
}

/// Finds everything in the indices.
impl Room for LiveMaps {
    fn contents(&self) -> &Snapshot {
        &self.now
    }

    fn free_slots(&self) -> Elements {
        self.slots.free_slots.clone()
    }

    fn free_cursors(&self) -> Elements {
        self.slots.free_cursors.clone()
    }

    fn is_shared(&self, cursor: u32, head: &VipKey) -> bool {
        let mut keys = self.vips.keys((head.app_id(), head.vip.into()));
        let mut own = 0;
        // The head comes first. Most VIPs have no other entry.
        while self.slots.has_more(cursor, own) {
            let Some(key) = keys.next() else { return true };
            let range = self.now.entries.get(&key).copied().unwrap_or_default();
            let slots = slots_in(&self.now, range).filter_map(|(_, slot)| slot);
            own += slots.filter(|slot| slot.owner == key && slot.cursor == cursor).count();
        }
        false
    }
}

/// The slots in a range. Another program may have written one that reaches beyond the map.
fn slots_in(now: &Snapshot, range: Range) -> impl Iterator<Item = (u32, Option<Slot>)> {
    indices(range).map_while(|index| Some((index, *now.slots.get(index as usize)?)))
}
