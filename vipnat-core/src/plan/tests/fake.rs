//! Maps in memory that hooks can read. A test can make their writes fail.

use std::{cell::RefCell, collections::BTreeMap};

use vipnat_common::{Count, Maps, Outlined, Range, Slot, SlotFlags, VipKey};

use crate::{
    model::{Capacity, Mapping, Snapshot},
    plan::{MapOps, Plan, Reclaim, Step, execute},
};

/// Large enough for all tables.
pub(super) const CAPACITY: Capacity = Capacity { vips: 32, backends: 256, cursors: 32 };

/// A snapshot with cursors.
#[derive(Clone)]
pub(super) struct FakeMaps {
    pub(super) maps: Snapshot,
    /// The turns that each cursor has given.
    pub(super) cursors: RefCell<BTreeMap<u32, u64>>,
    /// The number of writes that still succeed; `None` if all do.
    pub(super) writes_left: Option<usize>,
    /// Another program has written into the maps, so the writer may be wrong about their content.
    pub(super) foreign: bool,
}

/// The test made a write fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Default for FakeMaps {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl FakeMaps {
    /// Empty maps.
    pub(super) fn new(capacity: Capacity) -> Self {
        let maps = Snapshot::fresh(capacity);
        Self { maps, cursors: RefCell::default(), writes_left: None, foreign: false }
    }

    /// Carries steps out; calls `look` after each written element.
    pub(super) fn run(
        &mut self,
        steps: &[Step<'_>],
        look: impl FnMut(&Self),
    ) -> Result<(), Failed> {
        execute(steps, &mut Watched { fake: self, look })
    }

    /// Changes the mappings, and calls `look` after each write.
    pub(super) fn change(
        &mut self,
        mappings: &[Mapping],
        look: impl FnMut(&Self),
    ) -> Result<(), Failed> {
        let plan = Plan::new(&self.maps, mappings, |_| true).unwrap();
        self.run(&plan.steps(), look)
    }

    /// Reclaims retired slots, and calls `look` after each write.
    pub(super) fn reclaim(&mut self, look: impl FnMut(&Self)) -> Result<(), Failed> {
        let reclaim = Reclaim::new(&self.maps);
        self.run(&reclaim.steps(), look)
    }

    /// Runs a whole command: repairs, reclaims and changes.
    pub(super) fn command(
        &mut self,
        mappings: &[Mapping],
        mut look: impl FnMut(&Self),
    ) -> Result<(), Failed> {
        let tidy = Plan::tidy(&self.maps);
        self.run(&tidy.steps(), &mut look)?;
        assert!(self.is_tidy());
        self.reclaim(&mut look)?;
        self.change(mappings, look)
    }

    /// Changes the mappings, and expects success.
    pub(super) fn apply(&mut self, mappings: &[Mapping]) {
        self.change(mappings, |_| {}).unwrap();
    }

    /// Whether each slot without an entry is retired.
    pub(super) fn is_tidy(&self) -> bool {
        Plan::tidy(&self.maps) == Plan::default()
    }

    /// Writes a slot, and returns its old value.
    fn replace(&mut self, index: u32, slot: Option<Slot>) -> Option<Slot> {
        std::mem::replace(&mut self.maps.slots[index as usize], slot)
    }
}

/// Writes one element at a time.
struct Watched<'a, F> {
    fake: &'a mut FakeMaps,
    look: F,
}

impl<F: FnMut(&FakeMaps)> Watched<'_, F> {
    fn each<T>(&mut self, elements: &[T], write: impl Fn(&mut FakeMaps, &T)) -> Result<(), Failed> {
        elements.iter().try_for_each(|element| {
            if let Some(left) = &mut self.fake.writes_left {
                *left = left.checked_sub(1).ok_or(Failed)?;
            }
            write(self.fake, element);
            (self.look)(self.fake);
            Ok(())
        })
    }
}

impl<F: FnMut(&FakeMaps)> MapOps for Watched<'_, F> {
    type Error = Failed;

    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Failed> {
        self.each(slots, |fake, (index, slot)| {
            let before = fake.replace(*index, Some(*slot));
            assert!(fake.foreign || before.is_none(), "slot {index} is in use");
        })
    }

    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<(), Failed> {
        self.each(entries, |fake, (key, range)| {
            fake.maps.entries.insert(*key, *range);
        })
    }

    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<(), Failed> {
        self.each(keys, |fake, key| {
            let before = fake.maps.entries.remove(key);
            assert!(fake.foreign || before.is_some(), "{key:?} is not there");
        })
    }

    fn retire_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Failed> {
        self.each(slots, |fake, (index, slot)| {
            let before = fake.replace(*index, Some(*slot));
            assert!(fake.foreign || Some(*slot) == before.map(Slot::retired), "{before:?}");
        })
    }

    fn wait(&mut self) -> Result<(), Failed> {
        self.each(&[()], |_, ()| {})
    }

    fn reset_cursors(&mut self, indices: &[u32]) -> Result<(), Failed> {
        self.each(indices, |fake, cursor| {
            fake.cursors.get_mut().remove(cursor);
        })
    }

    fn empty_slots(&mut self, indices: &[u32]) -> Result<(), Failed> {
        self.each(indices, |fake, index| {
            let before = fake.replace(*index, Some(Slot::EMPTIED));
            let retired = |slot: Slot| slot.has(SlotFlags::RETIRED) && slot != Slot::EMPTIED;
            assert!(fake.foreign || before.is_some_and(retired), "{before:?}");
        })
    }

    fn free_slots(&mut self, indices: &[u32]) -> Result<(), Failed> {
        self.each(indices, |fake, index| {
            let before = fake.replace(*index, None);
            assert!(fake.foreign || before == Some(Slot::EMPTIED), "{before:?}");
        })
    }
}

impl Maps for FakeMaps {
    fn entry(&self, key: &VipKey) -> Option<Range> {
        self.maps.entries.get(key).copied()
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        (*self.maps.slots.get(index as usize)?).or(Slot::from_bytes(Slot::FREE))
    }

    fn take_turn(&self, cursor: u32, _: Count) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let turn = cursors.entry(cursor).or_default();
        *turn += 1;
        Some(*turn - 1)
    }

    fn peek_turn(&self, cursor: u32, _: Count) -> Option<u64> {
        Some(self.cursors.borrow().get(&cursor).copied().unwrap_or_default())
    }

    fn random(&self) -> u32 {
        0
    }
}

impl Outlined for FakeMaps {}
