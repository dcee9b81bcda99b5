//! The decision: given a destination and the maps, where does the connection go?

use crate::layout::{ANY_PORT, ANY_PROTOCOL, Flow, Protocol, Range, Slot, VIP_RANGE, VipKey};

/// How often [`decide()`] looks at most. A failed look means that the entry of this very VIP was
/// replaced, and its memory reused, within the nanoseconds between two loads.
pub const LOOKS: u32 = 8;

/// How many looks in a row have to find nothing before that is believed. The kernel replaces a hash
/// element by putting the new one first in its chain and then taking the old one out; a lookup that
/// is between the two places finds neither (`htab_map_update_elem` in kernel/bpf/hashtab.c; seen in
/// one of a thousand lookups when two neighbours are replaced all the time).
pub const MISSES: u32 = 4;

/// Where an application wants to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The app, from the cgroup's storage; never 0.
    pub scope: u32,
    /// Address, network byte order.
    pub ip: [u8; 4],
    /// Port, host byte order.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Protocol,
}

/// What to do with a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a VIP of this app, or not on this port or protocol: leave it alone.
    Pass,
    /// Connect to this address (network byte order) and port (host byte order) instead.
    Redirect {
        /// The backend's address.
        ip: [u8; 4],
        /// The backend's port, or the one asked for.
        port: u16,
    },
    /// A VIP without backends: fail at once with `EHOSTUNREACH`.
    Unreachable,
    /// The entry changed at each of [`LOOKS`] looks: fail with `EAGAIN`, since any backend this
    /// could pick might be another VIP's.
    Unsettled,
}

/// The maps, as far as the decision needs them.
pub trait Maps {
    /// The entry of `key` in `vips`. What it returns may belong to another key by then.
    fn range(&self, key: &VipKey) -> Option<Range>;
    /// The slot at `index` of `backends`; `None` beyond the end of the map.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// Adds one to a cursor and returns what it was before; `None` beyond the end of the map.
    fn take_turn(&self, cursor: u32) -> Option<u64>;
}

/// Decides where a connect goes. Takes one turn of the VIP's round robin if, and only if, it
/// answers [`Verdict::Redirect`] (but for a change of the table between two of its loads).
#[inline(always)]
pub fn decide<M: Maps>(maps: &M, to: &Destination) -> Verdict {
    // Everything but the range of VIPs costs no lookup.
    if to.ip[..2] != VIP_RANGE {
        return Verdict::Pass;
    }
    let mut misses = 0;
    for _ in 0..LOOKS {
        match look(maps, to) {
            Look::Verdict(verdict) => return verdict,
            Look::Changed => {}
            Look::Miss => {
                misses += 1;
                if misses == MISSES {
                    return Verdict::Pass;
                }
            }
        }
    }
    Verdict::Unsettled
}

/// What one look at the maps tells.
enum Look {
    /// Where the connect goes.
    Verdict(Verdict),
    /// Nothing there for this destination.
    Miss,
    /// Something changed underneath.
    Changed,
}

/// What a key leads to.
enum Found {
    /// No entry.
    Nothing,
    /// The entry and its first slot, which is the key's own.
    Entry(Range, Slot),
    /// The entry led to a slot of another key: it changed while it was read.
    Changed,
}

#[inline(always)]
fn find<M: Maps>(maps: &M, key: &VipKey) -> Found {
    let Some(range) = maps.range(key) else {
        return Found::Nothing;
    };
    match maps.slot(range.first) {
        Some(slot) if slot.owner == *key => Found::Entry(range, slot),
        _ => Found::Changed,
    }
}

#[inline(always)]
fn look<M: Maps>(maps: &M, to: &Destination) -> Look {
    // Every VIP has a head entry: one lookup tells a VIP from anything else.
    let mut found = find(maps, &VipKey::head(to.scope, to.ip));
    if let Found::Entry(_, slot) = &found
        && slot.flags & Slot::LIMITED != 0
    {
        found = find_limited(maps, to);
    }
    match found {
        Found::Nothing => Look::Miss,
        Found::Changed => Look::Changed,
        Found::Entry(range, slot) => {
            choose(maps, to, range, slot).map_or(Look::Changed, Look::Verdict)
        }
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

/// The entries that may serve a destination of a limited VIP, most specific first.
#[inline(always)]
fn limited_keys(to: &Destination) -> [VipKey; 3] {
    [
        VipKey::new(to.scope, to.ip, to.port, to.protocol),
        VipKey::new(to.scope, to.ip, to.port, ANY_PROTOCOL),
        VipKey::new(to.scope, to.ip, ANY_PORT, to.protocol),
    ]
}

/// Takes the turn of an entry whose first slot was found to be its own.
#[inline(always)]
fn choose<M: Maps>(maps: &M, to: &Destination, range: Range, first: Slot) -> Option<Verdict> {
    if first.flags & Slot::UNREACHABLE != 0 {
        return Some(Verdict::Unreachable);
    }
    // A count of 0 is never written; the verifier still wants to be told.
    if range.count == 0 {
        return None;
    }
    let turn = maps.take_turn(first.cursor)?;
    let step = (turn % u64::from(range.count)) as u32;
    let slot = maps.slot(range.first.wrapping_add(step))?;
    // The first slot told that the list is the key's own; this tells that the turn is in it.
    if slot.owner != first.owner || slot.flags != 0 {
        return None;
    }
    Some(Verdict::Redirect { ip: slot.ip, port: if slot.port == 0 { to.port } else { slot.port } })
}

/// The peer an application should see for a socket, given the peer the kernel sees. `None`: not
/// translated, or the socket has moved on to another peer; leave it alone.
#[inline(always)]
pub fn shown_peer(flow: &Flow, peer_ip: [u8; 4], peer_port: u16) -> Option<([u8; 4], u16)> {
    (flow.vip != [0; 4] && flow.backend == peer_ip && flow.backend_port == peer_port)
        .then_some((flow.vip, flow.vip_port))
}

#[cfg(test)]
mod tests;
