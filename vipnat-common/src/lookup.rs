//! One attempt to find the entry of a destination and take its turn. The maps may change meanwhile.

use crate::{
    abi::{ANY_PORT, Protocol, Range, Slot, SlotFlags, VipKey},
    destination::Destination,
    maps::{Count, Maps},
    verdict::{Target, Verdict},
};

/// The result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Where the connect goes.
    Verdict(Verdict),
    /// There is no entry for this destination.
    Miss,
    /// The maps changed during the attempt.
    Changed,
}

/// The entry that a lookup of a key finds.
enum Found {
    /// No entry.
    Nothing,
    /// The entry and its first slot, whose owner is the key.
    Entry(Range, Slot),
    /// The entry pointed to a slot of another key: it changed while it was read.
    Changed,
}

/// One attempt. [`decide()`](crate::decide::decide) makes at most
/// [`MAX_LOOKUPS`](crate::decide::MAX_LOOKUPS).
#[inline(always)]
pub fn lookup_once<M: Maps>(maps: &M, to: &Destination) -> Lookup {
    match find_entry(maps, to) {
        Found::Nothing => Lookup::Miss,
        Found::Changed => Lookup::Changed,
        Found::Entry(range, slot) => {
            choose(maps, to, range, slot).map_or(Lookup::Changed, Lookup::Verdict)
        }
    }
}

/// The entry for a destination.
#[inline(always)]
fn find_entry<M: Maps>(maps: &M, to: &Destination) -> Found {
    // Every VIP has a head entry: one lookup tells a VIP from any other address.
    let found = find(maps, &VipKey::head(to.app, to.ip));
    match &found {
        Found::Entry(_, slot) if slot.has(SlotFlags::LIMITED) => find_limited(maps, to),
        _ => found,
    }
}

/// The entry of a limited VIP for a destination, the most specific one.
#[inline(always)]
fn find_limited<M: Maps>(maps: &M, to: &Destination) -> Found {
    for key in limited_keys(to) {
        let found = find(maps, &key);
        if !matches!(found, Found::Nothing) {
            return found;
        }
    }
    Found::Nothing
}

#[inline(always)]
fn find<M: Maps>(maps: &M, key: &VipKey) -> Found {
    let Some(range) = maps.entry(key) else {
        return Found::Nothing;
    };
    match maps.slot(range.first) {
        Some(slot) if slot.owner == *key => Found::Entry(range, slot),
        _ => Found::Changed,
    }
}

/// The entries that may serve a destination of a limited VIP, most specific first.
#[inline(always)]
pub(crate) fn limited_keys(to: &Destination) -> [VipKey; 3] {
    // With port 0, any protocol would be the head entry.
    let any_protocol = if to.port == ANY_PORT { to.protocol } else { Protocol::Any };
    [
        VipKey::new(to.app, to.ip, to.port, to.protocol),
        VipKey::new(to.app, to.ip, to.port, any_protocol),
        VipKey::new(to.app, to.ip, ANY_PORT, to.protocol),
    ]
}

/// Takes a turn of an entry whose first slot has the right owner.
#[inline(always)]
fn choose<M: Maps>(maps: &M, to: &Destination, range: Range, first: Slot) -> Option<Verdict> {
    if first.has(SlotFlags::UNREACHABLE) {
        return Some(Verdict::Unreachable);
    }
    // vipnat never writes a count of 0, but the verifier needs this check.
    if range.count == 0 {
        return None;
    }
    // Take a turn even if there is only one slot, or the choice is random: the cursor counts connections.
    let turn = if to.is_route_probe() {
        maps.peek_turn(first.cursor, Count::UdpConnects)?
    } else if to.is_udp_connect() {
        maps.take_turn(first.cursor, Count::UdpConnects)?
    } else {
        maps.take_turn(first.cursor, Count::Turns)?
    };
    let (index, slot) = if range.count == 1 {
        (range.first, first)
    } else {
        let number = if first.has(SlotFlags::RANDOM) { u64::from(maps.random()) } else { turn };
        let index = range.first.wrapping_add((number % u64::from(range.count)) as u32);
        (index, maps.slot(index)?)
    };
    // The owner of the first slot shows that the list belongs to the key. This owner shows that the chosen
    // slot is in the list.
    if slot.owner != first.owner || slot.has(SlotFlags::LIMITED.union(SlotFlags::UNREACHABLE)) {
        return None;
    }
    Some(Verdict::Redirect(Target {
        ip: slot.ip,
        port: backend_port(&slot, to),
        slot: index,
        flags: slot.flags().intersection(SlotFlags::STRICT),
    }))
}

/// The port of a backend to which this call goes.
#[inline(always)]
pub(crate) fn backend_port(slot: &Slot, to: &Destination) -> u16 {
    // A probe keeps port 0: with another port, the kernel would show a peer (`inet_getname`).
    if slot.port == 0 || to.is_route_probe() { to.port } else { slot.port }
}
