//! Live maps as [`MapOps`]: they follow the steps that the maps of the kernel executed.

use std::convert::Infallible;

use vipnat_common::{Range, Slot, VipKey};

use super::{executor::MapOps, live_maps::LiveMaps};

/// Repeats each step, as [`Snapshot`](crate::model::Snapshot) does, and keeps the indices.
impl MapOps for LiveMaps {
    type Error = Infallible;

    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Infallible> {
        slots.iter().for_each(|(index, slot)| self.set_slot(*index, Some(*slot)));
        Ok(())
    }

    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<(), Infallible> {
        entries.iter().for_each(|(key, range)| self.set_entry(*key, *range));
        Ok(())
    }

    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<(), Infallible> {
        keys.iter().for_each(|key| self.remove_entry(key));
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
        indices.iter().for_each(|index| self.set_slot(*index, Some(Slot::EMPTIED)));
        Ok(())
    }

    fn free_slots(&mut self, indices: &[u32]) -> Result<(), Infallible> {
        indices.iter().for_each(|index| self.set_slot(*index, None));
        Ok(())
    }
}
