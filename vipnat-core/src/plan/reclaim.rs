//! Finds the slots and cursors that can be used again.

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashMap;
use vipnat_common::{Slot, SlotFlags};

use crate::model::Snapshot;

/// The retired slots and their cursors that can be used again. [`Reclaim::steps`] puts the writes in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// Cursors that no VIP uses any more.
    pub cursors: Vec<u32>,
    /// Slots that are retired and not yet emptied.
    pub emptied: Vec<u32>,
    /// Slots that an earlier command emptied.
    pub freed: Vec<u32>,
}

impl Reclaim {
    /// All that this snapshot contains.
    pub fn new(now: &Snapshot) -> Self {
        let retired = now.leftover().filter(|(_, slot)| slot.has(SlotFlags::RETIRED));
        let (emptied, retired): (Vec<_>, Vec<_>) =
            retired.partition(|(_, slot)| *slot == Slot::EMPTIED);
        let freed = emptied.into_iter().map(|(index, _)| index).collect();
        let retired: FxHashMap<_, _> = retired.into_iter().collect();
        let mut in_use = FixedBitSet::new();
        let slots = (0..).zip(&now.slots).filter_map(|(index, slot)| Some((index, (*slot)?)));
        let kept =
            slots.filter(|(index, slot)| *slot != Slot::EMPTIED && !retired.contains_key(index));
        let known = |cursor: &u32| *cursor < now.capacity.cursors;
        let kept = kept.map(|(_, slot)| slot.cursor).filter(known);
        kept.for_each(|cursor| in_use.grow_and_insert(cursor as usize));
        let cursors = retired.values().map(|slot| slot.cursor).filter(known);
        let mut cursors: Vec<_> =
            cursors.filter(|cursor| !in_use.contains(*cursor as usize)).collect();
        cursors.sort_unstable();
        cursors.dedup();
        let mut emptied: Vec<_> = retired.into_keys().collect();
        emptied.sort_unstable();
        Self { cursors, emptied, freed }
    }
}
