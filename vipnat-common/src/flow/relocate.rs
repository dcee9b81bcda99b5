//! Checks whether a slot still names a flow's backend, and finds one that does after the list was replaced.

use crate::{
    abi::{ANY_PORT, Protocol, Range, Slot, SlotFlags, VipKey},
    destination::Destination,
    lookup::{backend_port, limited_keys},
    maps::Maps,
    verdict::Target,
};

/// How many slots of a new list are searched for a flow's backend. The turns of a weighted backend are
/// spread, so this finds every backend with at least one turn in 64; others count as removed.
pub const MAX_SEARCHED: u32 = 64;

/// No slot has this index.
pub const NO_SLOT: u32 = u32::MAX;

/// Whether a slot's owner is not limited to other ports or another protocol.
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
/// A socket may have kept the index for long. The slot may be any VIP's by now, or half-written, so
/// only fields are used that agree with what the flow had.
///
/// A retired slot never matches. No entry leads a connect there, but the index in a flow would.
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
/// `slot_matches` says it of one.
#[inline(always)]
pub fn find_relocated_slot<M: Maps>(
    maps: &M,
    to: &Destination,
    slot_matches: impl Fn(u32) -> bool,
) -> u32 {
    let range = list(maps, to);
    for i in 0..MAX_SEARCHED {
        // Or LLVM counts down from the smaller of the two, and the verifier of 6.1 sees no end of that:
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

/// Where a destination's list may be; empty if there is none. Its slots have to be checked. One lookup
/// only, unlike [`decide()`](crate::decide::decide): after a miss, a flow moves while its list is
/// replaced.
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
