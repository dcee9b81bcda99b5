//! Finds the slots and cursors that can be used again.

use fixedbitset::FixedBitSet;
use rustc_hash::FxHashSet;
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
        let slots: FxHashSet<_> = retired.iter().map(|(index, _)| *index).collect();
        let mut in_use = FixedBitSet::new();
        let kept = (0..).zip(&now.slots).filter(|(index, _)| !slots.contains(index));
        let kept = kept.filter_map(|(_, slot)| now.named_cursor(slot.as_ref()?));
        kept.for_each(|cursor| in_use.grow_and_insert(cursor as usize));
        Self::of(now, retired, freed, |cursor| in_use.contains(cursor as usize))
    }

    /// Empties the retired slots, and frees those that are emptied. Both are sorted by index.
    pub(super) fn of(
        now: &Snapshot,
        retired: Vec<(u32, Slot)>,
        freed: Vec<u32>,
        in_use: impl Fn(u32) -> bool,
    ) -> Self {
        let cursors = retired.iter().filter_map(|(_, slot)| now.named_cursor(slot));
        let mut cursors: Vec<_> = cursors.filter(|cursor| !in_use(*cursor)).collect();
        cursors.sort_unstable();
        cursors.dedup();
        let emptied = retired.into_iter().map(|(index, _)| index).collect();
        Self { cursors, emptied, freed }
    }
}
