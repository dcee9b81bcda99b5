//! Writes of another program.

use proptest::prelude::*;
use vipnat_common::{AppId, Protocol, Range, Slot, SlotFlags, VipKey};

use crate::model::Snapshot;

/// A write of another program. The numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    /// Removes an entry.
    Remove(usize),
    /// Points an entry to other slots.
    Point(usize, u32, u32),
    /// Points an entry to the slots of another entry.
    Share(usize, usize),
    /// Adds an entry.
    Add(u32, u8, u16, u32, u32),
    /// Clears a slot.
    Free(usize),
    /// Writes [`Slot::EMPTIED`].
    Empty(usize),
    /// Sets or clears the flag of a slot.
    Retire(usize),
    /// Gives a slot to the owner of another one.
    Own(usize, usize),
    /// Writes the number of a cursor, also of one that does not exist.
    Cursor(usize, u32),
    /// Writes the backend of a slot.
    Backend(usize, u8),
}

pub(super) fn writes() -> impl Strategy<Value = Foreign> {
    let any = any::<usize>;
    prop_oneof![
        any().prop_map(Foreign::Remove),
        (any(), 0..64u32, 1..4u32)
            .prop_map(|(entry, first, count)| { Foreign::Point(entry, first, count) }),
        (any(), any()).prop_map(|(one, other)| Foreign::Share(one, other)),
        (0..8u32, 1..5u8, prop_oneof![Just(0), Just(80)], 0..64u32, 1..4u32)
            .prop_map(|(app, vip, port, first, count)| Foreign::Add(app, vip, port, first, count)),
        any().prop_map(Foreign::Free),
        any().prop_map(Foreign::Empty),
        any().prop_map(Foreign::Retire),
        (any(), any()).prop_map(|(one, other)| Foreign::Own(one, other)),
        (any(), 0..30u32).prop_map(|(slot, cursor)| Foreign::Cursor(slot, cursor)),
        (any(), 0..9u8).prop_map(|(slot, last)| Foreign::Backend(slot, last)),
    ]
}

impl Foreign {
    pub(super) fn write(self, maps: &mut Snapshot) {
        let mut keys: Vec<_> = maps.entries.keys().copied().collect();
        keys.sort_unstable_by_key(|key| key.to_bytes());
        let key = |number: usize| keys.get(number % keys.len().max(1)).copied();
        let slots: Vec<_> = (0..maps.slots.len()).filter(|i| maps.slots[*i].is_some()).collect();
        let full = |number: usize| slots.get(number % slots.len().max(1)).copied();
        // vipnat refuses to read a range that reaches beyond the map.
        let most = maps.slots.len() as u32;
        let within = |first: u32, count: u32| Range { first: first % (most - count), count };
        match self {
            Self::Remove(entry) => {
                key(entry).map(|key| maps.entries.remove(&key));
            }
            Self::Point(entry, first, count) => {
                maps.entries.extend(key(entry).map(|key| (key, within(first, count))));
            }
            Self::Share(one, other) => {
                let range = key(other).map(|key| maps.entries[&key]);
                maps.entries.extend(key(one).zip(range));
            }
            Self::Add(app, vip, port, first, count) => {
                let key = VipKey::new(AppId(app), [169, 254, 1, vip], port, Protocol::Any);
                maps.entries.insert(key, within(first, count));
            }
            Self::Free(slot) => {
                full(slot).map(|index| maps.slots[index].take());
            }
            Self::Empty(slot) => {
                full(slot).map(|index| maps.slots[index].replace(Slot::EMPTIED));
            }
            Self::Retire(slot) => edit(maps, full(slot), |slot| {
                slot.flags ^= SlotFlags::RETIRED.bits();
            }),
            Self::Own(one, other) => {
                let owner = full(other).and_then(|index| maps.slots[index]).map(|slot| slot.owner);
                edit(maps, full(one), |slot| slot.owner = owner.unwrap_or(slot.owner));
            }
            Self::Cursor(slot, cursor) => edit(maps, full(slot), |slot| slot.cursor = cursor),
            Self::Backend(slot, last) => edit(maps, full(slot), |slot| slot.ip[3] = last),
        }
    }
}

fn edit(maps: &mut Snapshot, index: Option<usize>, edit: impl FnOnce(&mut Slot)) {
    if let Some(slot) = index.and_then(|index| maps.slots[index].as_mut()) {
        edit(slot);
        if slot.to_bytes() == Slot::FREE {
            maps.slots[index.unwrap()] = None;
        }
    }
}
