//! The use of slots and cursors, kept up to date slot by slot.

use vipnat_common::{Slot, SlotFlags};

use super::elements::Elements;
use crate::model::{Snapshot, indices};

/// The use of all slots and cursors of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotUse {
    /// For each slot, the number of entries that point to it. Only another program can make it more than 1.
    entries: Vec<u32>,
    /// For each cursor, the slots that name it.
    cursors: Vec<CursorUse>,
    /// The slots without content.
    pub(super) free_slots: Elements,
    /// The cursors that no slot names.
    pub(super) free_cursors: Elements,
    /// The retired slots that no entry points to.
    pub(super) retired: Elements,
    /// The emptied slots that no entry points to.
    pub(super) emptied: Elements,
    /// The number of retired and emptied slots.
    pub(super) resting: usize,
    /// The number of slots that no entry points to, and that are not retired.
    pub(super) abandoned: usize,
}

/// The number of slots that name a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CursorUse {
    /// Those in [`SlotUse::retired`].
    retired: u32,
    /// The others.
    kept: u32,
}

/// The use of a slot.
enum State {
    Free,
    Live,
    Retired,
    Emptied,
    Abandoned,
}

impl State {
    fn of(slot: Option<Slot>, entries: u32) -> Self {
        match slot {
            None => Self::Free,
            Some(_) if entries > 0 => Self::Live,
            Some(Slot::EMPTIED) => Self::Emptied,
            Some(slot) if slot.has(SlotFlags::RETIRED) => Self::Retired,
            Some(_) => Self::Abandoned,
        }
    }
}

impl SlotUse {
    /// The use of a snapshot's slots and cursors.
    pub(super) fn new(now: &Snapshot) -> Self {
        let mut entries = vec![0; now.slots.len()];
        for index in now.entries.values().copied().flat_map(indices) {
            // Another program may have written a range beyond the map.
            if let Some(entries) = entries.get_mut(index as usize) {
                *entries += 1;
            }
        }
        let mut all = Self {
            entries,
            cursors: vec![CursorUse::default(); now.capacity.cursors as usize],
            free_slots: Elements::none(now.capacity.backends),
            free_cursors: Elements::all(now.capacity.cursors),
            retired: Elements::none(now.capacity.backends),
            emptied: Elements::none(now.capacity.backends),
            resting: 0,
            abandoned: 0,
        };
        for (index, slot) in (0..).zip(&now.slots) {
            all.count(index, *slot, now);
        }
        all
    }

    /// Whether more slots than these name a cursor, apart from retired ones.
    pub(super) fn has_more(&self, cursor: u32, slots: usize) -> bool {
        self.cursors[cursor as usize].kept as usize > slots
    }

    /// A slot gets another content. `now` has the sizes of the maps.
    pub(super) fn replace(
        &mut self,
        index: u32,
        old: Option<Slot>,
        new: Option<Slot>,
        now: &Snapshot,
    ) {
        self.uncount(index, old, now);
        self.count(index, new, now);
    }

    /// One more entry points to a slot.
    pub(super) fn point(&mut self, index: u32, slot: Option<Slot>, now: &Snapshot) {
        self.uncount(index, slot, now);
        self.entries[index as usize] += 1;
        self.count(index, slot, now);
    }

    /// One entry less points to a slot.
    pub(super) fn unpoint(&mut self, index: u32, slot: Option<Slot>, now: &Snapshot) {
        self.uncount(index, slot, now);
        self.entries[index as usize] -= 1;
        self.count(index, slot, now);
    }

    fn count(&mut self, index: u32, slot: Option<Slot>, now: &Snapshot) {
        let state = State::of(slot, self.entries[index as usize]);
        if let Some(cursor) = slot.and_then(|slot| now.named_cursor(&slot)) {
            self.free_cursors.remove(cursor);
            *self.users(cursor, &state) += 1;
        }
        match state {
            State::Free => self.free_slots.insert(index),
            State::Live => {}
            State::Retired => self.retired.insert(index),
            State::Emptied => self.emptied.insert(index),
            State::Abandoned => self.abandoned += 1,
        }
        self.resting += usize::from(matches!(state, State::Retired | State::Emptied));
    }

    /// Takes [`SlotUse::count`] back.
    fn uncount(&mut self, index: u32, slot: Option<Slot>, now: &Snapshot) {
        let state = State::of(slot, self.entries[index as usize]);
        if let Some(cursor) = slot.and_then(|slot| now.named_cursor(&slot)) {
            *self.users(cursor, &state) -= 1;
            if self.cursors[cursor as usize] == CursorUse::default() {
                self.free_cursors.insert(cursor);
            }
        }
        match state {
            State::Free => self.free_slots.remove(index),
            State::Live => {}
            State::Retired => self.retired.remove(index),
            State::Emptied => self.emptied.remove(index),
            State::Abandoned => self.abandoned -= 1,
        }
        self.resting -= usize::from(matches!(state, State::Retired | State::Emptied));
    }

    fn users(&mut self, cursor: u32, state: &State) -> &mut u32 {
        let CursorUse { retired, kept } = &mut self.cursors[cursor as usize];
        if matches!(state, State::Retired) { retired } else { kept }
    }
}
