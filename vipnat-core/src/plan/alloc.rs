//! Gives out free slots and free cursors of the maps.

use fixedbitset::FixedBitSet;
use vipnat_common::{Range, Slot};

use crate::model::{MapFull, Snapshot};

type Result<T> = std::result::Result<T, MapFull>;

/// Runs of free slots. Takes slots from the lowest run that is long enough.
pub(super) struct FreeSlots {
    runs: Vec<Range>,
    /// The first run that may have slots left.
    next: usize,
    capacity: u32,
}

impl FreeSlots {
    pub(super) fn new(now: &Snapshot) -> Self {
        let mut runs: Vec<Range> = Vec::new();
        for (index, _) in (0..).zip(&now.slots).filter(|(_, slot)| slot.is_none()) {
            match runs.last_mut() {
                Some(run) if run.first + run.count == index => run.count += 1,
                _ => runs.push(Range { first: index, count: 1 }),
            }
        }
        Self { runs, next: 0, capacity: now.capacity.backends }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<Range> {
        let capacity = self.capacity;
        let full = |runs: &[Range]| MapFull {
            map: "backends",
            needed: count,
            free: Some(runs.iter().map(|run| run.count as usize).max().unwrap_or(0)),
            limit: capacity,
        };
        let count_u32 = u32::try_from(count).map_err(|_| full(&self.runs))?;
        let mut left = self.runs[self.next..].iter_mut();
        let Some(run) = left.find(|run| run.count >= count_u32) else {
            return Err(full(&self.runs));
        };
        let range = Range { first: run.first, count: count_u32 };
        run.first += count_u32;
        run.count -= count_u32;
        while self.runs.get(self.next).is_some_and(|run| run.count == 0) {
            self.next += 1;
        }
        Ok(range)
    }
}

/// Cursors that no slot names, lowest first.
pub(super) struct FreeCursors {
    taken: FixedBitSet,
    next: u32,
    capacity: u32,
}

impl FreeCursors {
    pub(super) fn new(now: &Snapshot) -> Self {
        let mut taken = FixedBitSet::new();
        let capacity = now.capacity.cursors;
        // Only another program can have written the number of a cursor beyond the map.
        let slots = now.slots.iter().flatten();
        let slots = slots.filter(|slot| **slot != Slot::EMPTIED && slot.cursor < capacity);
        slots.for_each(|slot| taken.grow_and_insert(slot.cursor as usize));
        Self { taken, next: 0, capacity }
    }

    pub(super) fn take(&mut self) -> Result<u32> {
        while self.taken.contains(self.next as usize) {
            self.next += 1;
        }
        if self.next >= self.capacity {
            let limit = self.capacity;
            return Err(MapFull { map: "cursors", needed: 1, free: Some(0), limit });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}
