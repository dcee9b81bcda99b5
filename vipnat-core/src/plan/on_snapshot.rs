//! A snapshot as [`MapOps`], so that steps can be carried out on it too.

use std::convert::Infallible;

use vipnat_common::{Range, Slot, VipKey};

use super::executor::MapOps;
use crate::model::Snapshot;

/// Repeats on the snapshot what the steps do to the maps in the kernel. The steps for cursors do nothing,
/// because a snapshot has no cursors. The wait does nothing, because no program reads a snapshot.
impl MapOps for Snapshot {
    type Error = Infallible;

    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Infallible> {
        slots.iter().for_each(|(index, slot)| self.slots[*index as usize] = Some(*slot));
        Ok(())
    }

    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<(), Infallible> {
        self.entries.extend(entries.iter().copied());
        Ok(())
    }

    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<(), Infallible> {
        keys.iter().for_each(|key| {
            self.entries.remove(key);
        });
        Ok(())
    }

    fn retire_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Infallible> {
        self.write_slots(slots)
    }

    fn wait(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn reset_cursors(&mut self, _: &[u32]) -> Result<(), Infallible> {
        Ok(())
    }

    fn empty_slots(&mut self, indices: &[u32]) -> Result<(), Infallible> {
        indices.iter().for_each(|index| self.slots[*index as usize] = Some(Slot::EMPTIED));
        Ok(())
    }

    fn free_slots(&mut self, indices: &[u32]) -> Result<(), Infallible> {
        indices.iter().for_each(|index| self.slots[*index as usize] = None);
        Ok(())
    }
}
