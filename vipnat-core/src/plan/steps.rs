//! The order of writes: this file alone says which step comes before which.
//! Within a step, `entries` orders the entries of a VIP.
//!
//! Hooks read the maps while vipnat changes them. After each single write, a connect must go where the
//! old table or the new one says. So a change has this order:
//!
//! 1. Fill new slots. No entry points to them yet.
//! 2. Point entries to their new slots. Of a limited VIP, the limited entry comes before the head that
//!    sends readers to it.
//! 3. Attach cgroups and switch them to their apps. The caller does this between two lists of steps.
//! 4. Wait for a grace period if the caller attached any cgroup: a program may still have the app id
//!    that its cgroup had before, and must find its entries.
//! 5. Remove entries, heads before the limited entries to which they send readers.
//! 6. Retire the old slots, to which no entry points any more.
//!
//! A later change uses their places again, after two grace periods:
//!
//! 7. Wait for a grace period: a program may have found a slot through its entry before.
//! 8. Reset cursors that no VIP has any more. They must be reset before their slots are emptied: only a
//!    slot keeps a cursor from being given to another VIP.
//! 9. Empty retired slots. They are not free yet: a UDP flow still may have the index of one.
//! 10. Free the slots that an earlier command emptied.
//!
//! [`execute`](super::execute()) carries the steps out, on the maps of the kernel and on those in memory.
//! The model in `plan/tests/interleavings` carries out these same lists, and stops readers at each of their
//! accesses. `seam.rs` there names each pair of neighbours: where the order matters, the model finds a
//! connect that goes astray once the two change places.

use vipnat_common::{Range, Slot, VipKey};

use super::{diff::Plan, reclaim::Reclaim};

/// One kind of write, to any number of elements. The elements are written in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Fill free slots.
    WriteSlots(&'a [(u32, Slot)]),
    /// Point entries to their slots; each of them is one write, which all CPUs see at once.
    SwitchEntries(&'a [(VipKey, Range)]),
    /// Remove entries.
    RemoveEntries(&'a [VipKey]),
    /// Mark slots as retired. They keep their backends for programs that found them before.
    RetireSlots(&'a [(u32, Slot)]),
    /// Wait for a grace period: until each program has ended that runs now.
    Wait,
    /// Set cursors back to the first turn.
    ResetCursors(&'a [u32]),
    /// Make slots [`Slot::EMPTIED`].
    EmptySlots(&'a [u32]),
    /// Make slots free.
    FreeSlots(&'a [u32]),
}

impl Plan {
    /// All steps of a change that attaches no cgroup.
    pub fn steps(&self) -> Vec<Step<'_>> {
        [self.steps_before_attaching(), self.steps_after_attaching(false)].concat()
    }

    /// The steps that make new mappings reachable. After them, cgroups may be attached.
    pub fn steps_before_attaching(&self) -> Vec<Step<'_>> {
        let Self { slots, switches, removals: _, retired: _ } = self;
        needed([Step::WriteSlots(slots), Step::SwitchEntries(switches)])
    }

    /// The steps that take old mappings away. `attached`: some cgroup was attached since the
    /// [first steps](Self::steps_before_attaching).
    pub fn steps_after_attaching(&self, attached: bool) -> Vec<Step<'_>> {
        let Self { slots: _, switches: _, removals, retired } = self;
        let wait = (attached && !removals.is_empty()).then_some(Step::Wait);
        needed(wait.into_iter().chain([Step::RemoveEntries(removals), Step::RetireSlots(retired)]))
    }
}

impl Reclaim {
    /// All steps.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let Self { cursors, emptied, freed } = self;
        let wait = (!emptied.is_empty() || !freed.is_empty()).then_some(Step::Wait);
        let steps =
            [Step::ResetCursors(cursors), Step::EmptySlots(emptied), Step::FreeSlots(freed)];
        needed(wait.into_iter().chain(steps))
    }
}

/// The steps that write anything.
fn needed<'a>(steps: impl IntoIterator<Item = Step<'a>>) -> Vec<Step<'a>> {
    let is_needed = |step: &Step<'_>| match step {
        Step::WriteSlots(slots) | Step::RetireSlots(slots) => !slots.is_empty(),
        Step::SwitchEntries(entries) => !entries.is_empty(),
        Step::RemoveEntries(keys) => !keys.is_empty(),
        Step::Wait => true,
        Step::ResetCursors(indices) | Step::EmptySlots(indices) | Step::FreeSlots(indices) => {
            !indices.is_empty()
        }
    };
    steps.into_iter().filter(is_needed).collect()
}
