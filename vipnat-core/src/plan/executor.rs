//! Carries steps out, on any maps.

use vipnat_common::{Range, Slot, VipKey};

use super::steps::Step;

/// Maps to which steps can be written: the pinned ones, or some in memory.
///
/// Each call writes its elements one after the other, in their order, and stops at the first error.
pub trait MapOps {
    /// Why a write failed.
    type Error;

    /// Fills free slots, to which no entry points.
    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Self::Error>;

    /// Points entries to their slots, each in one write.
    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<(), Self::Error>;

    /// Removes entries. A missing entry is no error.
    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<(), Self::Error>;

    /// Marks slots as retired, with the given values. No entry points to them any more.
    fn retire_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Self::Error>;

    /// Waits for a grace period: until each program that runs now has ended.
    fn wait(&mut self) -> Result<(), Self::Error>;

    /// Sets cursors back to the first turn.
    fn reset_cursors(&mut self, indices: &[u32]) -> Result<(), Self::Error>;

    /// Makes retired slots [`Slot::EMPTIED`].
    fn empty_slots(&mut self, indices: &[u32]) -> Result<(), Self::Error>;

    /// Makes emptied slots free.
    fn free_slots(&mut self, indices: &[u32]) -> Result<(), Self::Error>;
}

/// Carries steps out in their order, up to the first error.
///
/// After an error, [`Plan::tidy`](super::Plan::tidy) and another plan lead to the same maps.
///
/// # Errors
///
/// Those of `maps`.
pub fn execute<M: MapOps>(steps: &[Step<'_>], maps: &mut M) -> Result<(), M::Error> {
    steps.iter().try_for_each(|step| match *step {
        Step::WriteSlots(slots) => maps.write_slots(slots),
        Step::SwitchEntries(entries) => maps.switch_entries(entries),
        Step::RemoveEntries(keys) => maps.remove_entries(keys),
        Step::RetireSlots(slots) => maps.retire_slots(slots),
        Step::Wait => maps.wait(),
        Step::ResetCursors(indices) => maps.reset_cursors(indices),
        Step::EmptySlots(indices) => maps.empty_slots(indices),
        Step::FreeSlots(indices) => maps.free_slots(indices),
    })
}
