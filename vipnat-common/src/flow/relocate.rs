//! Checks whether a slot still names a flow's backend. If the list was replaced, finds a slot that does.

use crate::{
    abi::{ANY_PORT, Protocol, Range, Slot, SlotFlags, VipKey},
    destination::Destination,
    lookup::{backend_port, limited_keys},
    maps::Maps,
    verdict::Target,
};

/// The number of slots of a new list that are searched for a flow's backend. The turns of a weighted
/// backend are spread, so this finds every backend with at least one turn in 64. Others count as removed.
pub const MAX_SEARCHED: u32 = 64;

/// The index that no slot has.
pub const NO_SLOT: u32 = u32::MAX;

/// Whether a slot's owner serves this destination: it is not limited to another port or protocol.
#[inline(always)]
pub(super) fn serves(slot: &Slot, to: &Destination) -> bool {
    let VipKey { app: _, vip: _, port, protocol, reserved: _ } = slot.owner;
    (port == ANY_PORT || port == to.port) && (protocol == Protocol::Any || protocol == to.protocol)
}

/// Whether the slot at `index` gives a flow's VIP the backend that the flow had.
#[inline(always)]
pub fn slot_matches<M: Maps>(maps: &M, index: u32, to: &Destination, had: &Target) -> bool {
    maps.slot(index).is_some_and(|slot| matches(&slot, to, had))
}

/// Whether a slot gives this VIP the backend that a flow had.
///
/// A socket may have kept the index for long. The slot may belong to any VIP by now, or be half written. So
/// only those fields count that agree with the flow.
///
/// A retired slot never matches. No entry sends a connect there, but the index in a flow would.
#[inline(always)]
pub(super) fn matches(slot: &Slot, to: &Destination, had: &Target) -> bool {
    const UNUSABLE: SlotFlags =
        SlotFlags::LIMITED.union(SlotFlags::UNREACHABLE).union(SlotFlags::RETIRED);
    slot.owner.app == to.app.0
        && slot.owner.vip == to.ip
        && !slot.has(UNUSABLE)
        && slot.ip == had.ip
        && backend_port(slot, to) == had.port
}

/// The slot that gives a flow's VIP the flow's backend after its list was replaced, or [`NO_SLOT`].
/// `slot_matches` checks one slot.
#[inline(always)]
pub fn find_relocated_slot<M: Maps>(
    maps: &M,
    to: &Destination,
    slot_matches: impl Fn(u32) -> bool,
) -> u32 {
    let range = list(maps, to);
    for i in 0..MAX_SEARCHED {
        // Without this, LLVM counts down from the smaller of the two, and the verifier of 6.1 finds no end:
        // "The sequence of 8193 jumps is too complex."
        if i >= core::hint::black_box(range.count) {
            break;
        }
        let index = range.first.wrapping_add(i);
        if slot_matches(index) {
            return index;
        }
    }
    NO_SLOT
}

/// The place where a destination's list may be; empty if there is none. The caller must check its slots. It
/// makes one lookup only, unlike [`decide()`](crate::decide::decide). So a flow that misses an entry while
/// it is replaced moves to another backend.
#[inline(always)]
fn list<M: Maps>(maps: &M, to: &Destination) -> Range {
    let head = maps.entry(&VipKey::head(to.app, to.ip)).unwrap_or_default();
    if maps.slot(head.first).is_none_or(|slot| !slot.has(SlotFlags::LIMITED)) {
        return head;
    }
    for key in limited_keys(to) {
        if let Some(range) = maps.entry(&key) {
            return range;
        }
    }
    Range::default()
}
