//! The order of writes. Only this file defines which step comes before which.
//! Within a step, `entries` orders the entries of a VIP.
//!
//! Hooks read the maps while vipnat changes them. After each single write, a connect must go where the
//! old table or the new one sends it. So a change has this order:
//!
//! 1. Fill new slots. No entry points to them yet.
//! 2. Point entries to their new slots. The limited entry of a limited VIP comes before its head entry,
//!    which sends readers to it.
//! 3. Attach cgroups and switch them to their apps. The caller does this between two lists of steps.
//! 4. Wait for a grace period if the caller attached any cgroup. A program may still have the app id
//!    that its cgroup had before, and must find the entries of that app.
//! 5. Remove entries: head entries before the limited entries to which they send readers.
//! 6. Retire the old slots, to which no entry points any more.
//!
//! A later change uses their places again, after two grace periods:
//!
//! 7. Wait for a grace period: a program may have found a slot through its entry before.
//! 8. Reset cursors that no VIP uses any more. Only a slot keeps a cursor from being given to another VIP,
//!    so vipnat resets the cursors before it empties their slots.
//! 9. Empty retired slots. They are not free yet: a UDP flow may still have the index of one.
//! 10. Free the slots that an earlier command emptied.
//!
//! [`execute`](super::execute()) carries the steps out, on the maps of the kernel and on those in memory.
//! The model in `plan/tests/interleavings` carries out the same lists, and stops readers at each of
//! their accesses. `seam.rs` there names each pair of neighbours. Where their order matters, the model exchanges
//! the two, and must then find a connect that goes wrong.

use vipnat_common::{Range, Slot, VipKey};

use super::{diff::Plan, reclaim::Reclaim};

/// One kind of write, to any number of elements. The elements are written in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Fill free slots.
    WriteSlots(&'a [(u32, Slot)]),
    /// Point entries to their slots. Each entry takes one write, which all CPUs see at once.
    SwitchEntries(&'a [(VipKey, Range)]),
    /// Remove entries.
    RemoveEntries(&'a [VipKey]),
    /// Mark slots as retired. They keep their backends for programs that found them before.
    RetireSlots(&'a [(u32, Slot)]),
    /// Wait for a grace period: until each program that runs now has ended.
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

    /// The steps that make new mappings reachable. The caller attaches cgroups after them.
    pub fn steps_before_attaching(&self) -> Vec<Step<'_>> {
        let Self { slots, switches, removals: _, retired: _ } = self;
        needed([Step::WriteSlots(slots), Step::SwitchEntries(switches)])
    }

    /// The steps that take old mappings away. `attached`: the caller has attached a cgroup since the
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
        let steps = self.steps_after_waiting();
        let wait = (!steps.is_empty()).then_some(Step::Wait);
        wait.into_iter().chain(steps).collect()
    }

    /// The steps after the wait, for a caller that waits by itself. The wait begins after vipnat has made
    /// this reclaim. Plans may be executed meanwhile, but no other reclaim.
    ///
    /// A plan neither fills nor retires a slot that was retired before it. It gives none of the cursors to
    /// another VIP, since retired slots still name them.
    pub fn steps_after_waiting(&self) -> Vec<Step<'_>> {
        let Self { cursors, emptied, freed } = self;
        needed([Step::ResetCursors(cursors), Step::EmptySlots(emptied), Step::FreeSlots(freed)])
    }
}

/// Leaves out the steps that have no elements.
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
