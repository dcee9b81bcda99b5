//! Gives out free slots and free cursors of the maps.

use std::collections::BTreeMap;

use vipnat_common::{Range, VipKey};

use super::elements::Elements;
use crate::model::{MapFull, Snapshot};

type Result<T> = std::result::Result<T, MapFull>;

/// Finds the free elements of maps, and gives each one to one taker.
pub(super) struct Allocator {
    map: &'static str,
    free: Elements,
    /// For a number of elements, an index before which no run has that many. It stays true, since elements
    /// are only taken.
    passed: BTreeMap<u32, u32>,
}

impl Allocator {
    /// An allocator for the free elements of a map.
    pub(super) fn new(map: &'static str, free: Elements) -> Self {
        Self { map, free, passed: BTreeMap::new() }
    }

    /// Takes elements from the lowest run that is long enough.
    pub(super) fn take(&mut self, count: usize) -> Result<Range> {
        let number = u32::try_from(count).map_err(|_| self.full(count))?;
        let shorter = self.passed.range(..=number);
        let from = shorter.map(|(_, passed)| *passed).max().unwrap_or(0);
        let first = self.free.find(from, number).ok_or_else(|| self.full(count))?;
        (first..first + number).for_each(|index| self.free.remove(index));
        self.passed.insert(number, first + number);
        Ok(Range { first, count: number })
    }

    fn full(&self, needed: usize) -> MapFull {
        let free = Some(self.free.longest() as usize);
        MapFull { map: self.map, needed, free, limit: self.free.capacity() }
    }
}

/// Maps with their contents, which know their free elements.
pub(super) trait Room {
    /// The contents.
    fn contents(&self) -> &Snapshot;

    /// The free slots.
    fn free_slots(&self) -> Elements;

    /// The cursors that no slot names.
    fn free_cursors(&self) -> Elements;

    /// Whether VIPs that are not part of a plan may have this cursor of a head entry too. Only another
    /// program can have caused that.
    fn is_shared(&self, cursor: u32, head: &VipKey) -> bool;
}

/// Searches all slots.
impl Room for Snapshot {
    fn contents(&self) -> &Snapshot {
        self
    }

    fn free_slots(&self) -> Elements {
        let mut free = Elements::none(self.capacity.backends);
        let slots = (0..).zip(&self.slots).filter(|(_, slot)| slot.is_none());
        slots.for_each(|(index, _)| free.insert(index));
        free
    }

    fn free_cursors(&self) -> Elements {
        let mut free = Elements::all(self.capacity.cursors);
        let cursors = self.slots.iter().flatten().filter_map(|slot| self.named_cursor(slot));
        cursors.for_each(|cursor| free.remove(cursor));
        free
    }

    /// A plan for a whole snapshot sees by itself which cursors it gives twice.
    fn is_shared(&self, _: u32, _: &VipKey) -> bool {
        false
    }
}
