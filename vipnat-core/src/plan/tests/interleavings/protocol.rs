//! How the model carries steps out: as vipnat does, or in a broken way that the model must find.

use crate::plan::Step;

/// How steps are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// As vipnat does.
    Real,
    /// As vipnat does, but each slot is copied from its end.
    Backwards,
    /// As vipnat does, but a [`Range`](vipnat_common::Range) is not copied in one piece.
    TornRanges,
    /// Two kinds of steps change places.
    Exchanged(Kind, Kind),
    /// The elements of one kind of step are written from the last to the first.
    Reversed(Kind),
    /// Steps of one kind are left out.
    Without(Kind),
    /// Retired slots are free after one grace period.
    FreesAtOnce,
}

/// The kind of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WriteSlots,
    SwitchEntries,
    RemoveEntries,
    RetireSlots,
    Wait,
    ResetCursors,
    EmptySlots,
    FreeSlots,
}

impl Kind {
    pub(super) fn of(step: &Step<'_>) -> Self {
        match step {
            Step::WriteSlots(_) => Self::WriteSlots,
            Step::SwitchEntries(_) => Self::SwitchEntries,
            Step::RemoveEntries(_) => Self::RemoveEntries,
            Step::RetireSlots(_) => Self::RetireSlots,
            Step::Wait => Self::Wait,
            Step::ResetCursors(_) => Self::ResetCursors,
            Step::EmptySlots(_) => Self::EmptySlots,
            Step::FreeSlots(_) => Self::FreeSlots,
        }
    }
}

impl Protocol {
    /// The steps of a plan or of a reclaim, in the order of this protocol.
    pub(super) fn arrange<'a>(self, mut steps: Vec<Step<'a>>) -> Vec<Step<'a>> {
        let place = |kind| steps.iter().position(|step| Kind::of(step) == kind);
        match self {
            Self::Real | Self::Backwards | Self::TornRanges => steps,
            Self::Exchanged(one, other) => {
                if let (Some(one), Some(other)) = (place(one), place(other)) {
                    steps.swap(one, other);
                }
                steps
            }
            Self::Reversed(kind) => {
                let turned = |step| {
                    let mut elements = elements(step);
                    if Kind::of(&step) == kind {
                        elements.reverse();
                    }
                    elements
                };
                steps.into_iter().flat_map(turned).collect()
            }
            Self::Without(kind) => {
                steps.retain(|step| Kind::of(step) != kind);
                steps
            }
            Self::FreesAtOnce => {
                let free = |step| match step {
                    Step::EmptySlots(indices) => Step::FreeSlots(indices),
                    other => other,
                };
                steps.into_iter().map(free).collect()
            }
        }
    }
}

/// Splits a step: one step for each of its elements.
fn elements(step: Step<'_>) -> Vec<Step<'_>> {
    match step {
        Step::WriteSlots(slots) => slots.chunks(1).map(Step::WriteSlots).collect(),
        Step::SwitchEntries(entries) => entries.chunks(1).map(Step::SwitchEntries).collect(),
        Step::RemoveEntries(keys) => keys.chunks(1).map(Step::RemoveEntries).collect(),
        Step::RetireSlots(slots) => slots.chunks(1).map(Step::RetireSlots).collect(),
        Step::Wait => vec![Step::Wait],
        Step::ResetCursors(indices) => indices.chunks(1).map(Step::ResetCursors).collect(),
        Step::EmptySlots(indices) => indices.chunks(1).map(Step::EmptySlots).collect(),
        Step::FreeSlots(indices) => indices.chunks(1).map(Step::FreeSlots).collect(),
    }
}
