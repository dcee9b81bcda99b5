//! The decision: given a destination and the maps, where does the connection go?

use crate::{
    flow::{Moment, Socket},
    layout::{ANY_PORT, ANY_PROTOCOL, Datagrams, Flow, Protocol, Range, Slot, VIP_RANGE, VipKey},
};

/// How often [`decide()`] looks at most, when a look finds nothing or finds that something changed
/// underneath. The kernel replaces a hash element by putting the new one first in its chain and then
/// taking the old one out; a lookup that is between the two places finds neither
/// (`htab_map_update_elem` in kernel/bpf/hashtab.c; seen in one of a thousand lookups when two
/// neighbours are replaced all the time). So nothing is believed to be there only after this many
/// looks without anything.
pub const LOOKS: u32 = 5;

/// How much of a list is searched for the backend that a UDP flow had before the list was replaced.
/// The weights' turns are spread, so this finds any backend that has one in so many; others are
/// taken for gone.
pub const SEARCHED: u32 = 64;

/// Where an application wants to connect to, or to send a datagram to.
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
    /// It connects; otherwise it sends a datagram.
    pub connect: bool,
}

impl Destination {
    /// Whether the address is in the range of VIPs.
    #[inline(always)]
    pub fn may_be_vip(&self) -> bool {
        self.ip[..2] == VIP_RANGE
    }

    /// A UDP `connect` to port 0 can't lead to traffic: it is how resolvers ask which address would
    /// be used (`getaddrinfo` of glibc).
    #[inline(always)]
    fn is_question(&self) -> bool {
        self.port == 0 && self.is_udp_connect()
    }

    #[inline(always)]
    fn is_udp_connect(&self) -> bool {
        self.connect && matches!(self.protocol, Protocol::Udp)
    }
}

/// What to do with a connect or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a VIP of this app, or not on this port or protocol: leave it alone.
    Pass,
    /// Go there instead.
    Redirect(Target),
    /// A VIP without backends: fail at once with `EHOSTUNREACH`.
    Unreachable,
    /// [`LOOKS`] looks found nothing to rely on, and not nothing each time: fail with `EAGAIN`, since
    /// any backend this could pick might be another VIP's.
    Unsettled,
}

/// Where a [`Verdict::Redirect`] goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The slot that named it.
    pub slot: u32,
    /// The backend's port, or the one asked for, host byte order.
    pub port: u16,
    /// [`Slot::STRICT`] or nothing: UDP flows stay there even when the table no longer has it.
    pub flags: u16,
}

/// Which count of a [`Cursor`](crate::layout::Cursor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// [`Cursor::sent`](crate::layout::Cursor::sent)
    Sent,
    /// [`Cursor::udp_connects`](crate::layout::Cursor::udp_connects)
    UdpConnects,
}

/// The maps, as far as the decision needs them.
pub trait Maps {
    /// The entry of `key` in `vips`. What it returns may belong to another key by then.
    fn range(&self, key: &VipKey) -> Option<Range>;
    /// The slot at `index` of `backends`; `None` beyond the end of the map.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// Adds one to a count of a cursor and returns what it was before; `None` beyond the end of the
    /// map.
    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64>;
    /// What [`Maps::take_turn`] would return for [`Count::UdpConnects`], without taking the turn.
    fn next_udp_connect(&self, cursor: u32) -> Option<u64>;
    /// Any number, each as likely as the others.
    fn random(&self) -> u32;
    /// [`look()`] with these maps; where it pays, in a function that is checked on its own.
    #[inline(always)]
    fn look(&self, to: &Destination) -> Look
    where
        Self: Sized,
    {
        look(self, to)
    }
    /// [`moved`] with these maps, as [`Maps::look`].
    #[inline(always)]
    fn moved(&self, to: &Destination, had: &Target) -> u32
    where
        Self: Sized,
    {
        moved(self, to, had)
    }
    /// [`slot_names`] with these maps, as [`Maps::look`].
    #[inline(always)]
    fn names(&self, index: u32, to: &Destination, had: &Target) -> bool
    where
        Self: Sized,
    {
        slot_names(self, index, to, had)
    }
    /// [`Datagrams::find`], as [`Maps::look`].
    #[inline(always)]
    fn find(&self, datagrams: &Datagrams, to: &Destination, socket: &Socket, now: Moment) -> usize {
        datagrams.find(to, socket, now)
    }
    /// [`Datagrams::keep`], as [`Maps::look`].
    #[inline(always)]
    fn keep(&self, datagrams: &mut Datagrams, flow: &Flow, now: Moment) -> bool {
        datagrams.keep(flow, now)
    }
}

/// Decides where a connect or the first datagram of a flow goes. Takes one turn of the VIP's round
/// robin if, and only if, it answers [`Verdict::Redirect`] (but for a change of the table between two
/// of its loads, and for UDP connects to port 0, which never take one).
#[inline(always)]
pub fn decide<M: Maps>(maps: &M, to: &Destination) -> Verdict {
    // Everything but the range of VIPs costs no lookup.
    if !to.may_be_vip() {
        return Verdict::Pass;
    }
    let mut changed = false;
    for _ in 0..LOOKS {
        match maps.look(to) {
            Look::Verdict(verdict) => return verdict,
            Look::Changed => changed = true,
            Look::Miss => {}
        }
    }
    if changed { Verdict::Unsettled } else { Verdict::Pass }
}

/// Where a UDP flow goes on to: the backend it had, as long as the table has it. `None`: it no longer
/// does.
#[inline(always)]
pub fn follow<M: Maps>(maps: &M, to: &Destination, had: &Target) -> Option<Target> {
    let named = |index| {
        let slot = maps.slot(index).filter(|slot| serves(slot, to) && names(slot, to, had))?;
        Some(Target { slot: index, flags: slot.flags & Slot::STRICT, ..*had })
    };
    if let Some(target) = named(had.slot) {
        return Some(target);
    }
    if let Some(target) = named(maps.moved(to, had)) {
        return Some(target);
    }
    (had.flags & Slot::STRICT != 0).then_some(*had)
}

/// Whether a slot's owner is not limited to other ports or another protocol.
#[inline(always)]
fn serves(slot: &Slot, to: &Destination) -> bool {
    let VipKey { scope: _, vip: _, port, protocol, reserved: _ } = slot.owner;
    (port == ANY_PORT || port == to.port) && (protocol == ANY_PROTOCOL || protocol == to.protocol)
}

/// Whether the slot at `index` gives a flow's VIP the backend that the flow had.
#[inline(always)]
pub fn slot_names<M: Maps>(maps: &M, index: u32, to: &Destination, had: &Target) -> bool {
    maps.slot(index).is_some_and(|slot| names(&slot, to, had))
}

/// Whether a slot gives this VIP the backend that a flow had. A socket may have kept its index
/// for long, so it may be any VIP's by now, or half-written: nothing of it is used but what agrees with
/// what the flow had.
///
/// No connect is led by a retired slot, but for one that is under way, since no entry leads there. A flow
/// would be, by its index.
#[inline(always)]
fn names(slot: &Slot, to: &Destination, had: &Target) -> bool {
    slot.owner.scope == to.scope
        && slot.owner.vip == to.ip
        && slot.flags & (Slot::LIMITED | Slot::UNREACHABLE | Slot::RETIRED) == 0
        && slot.ip == had.ip
        && port(slot, to) == had.port
}

/// No slot has this index.
pub const NOWHERE: u32 = u32::MAX;

/// The slot that gives a flow's VIP the flow's backend after its list was replaced, or [`NOWHERE`].
#[inline(always)]
pub fn moved<M: Maps>(maps: &M, to: &Destination, had: &Target) -> u32 {
    let range = list(maps, to);
    for i in 0..SEARCHED {
        // Or LLVM counts down from the smaller of the two, and the verifier of 6.1 sees no end of that:
        // "The sequence of 8193 jumps is too complex."
        if i >= core::hint::black_box(range.count) {
            break;
        }
        let index = range.first.wrapping_add(i);
        if maps.names(index, to, had) {
            return index;
        }
    }
    NOWHERE
}

/// Where a destination's list may be; empty if there is none. What is in it has to be checked. One look
/// only, unlike [`decide()`]: what a miss costs is a flow that moves while its list is replaced.
#[inline(always)]
fn list<M: Maps>(maps: &M, to: &Destination) -> Range {
    let head = maps.range(&VipKey::head(to.scope, to.ip)).unwrap_or_default();
    if maps.slot(head.first).is_none_or(|slot| slot.flags & Slot::LIMITED == 0) {
        return head;
    }
    for key in limited_keys(to) {
        if let Some(range) = maps.range(&key) {
            return range;
        }
    }
    Range::default()
}

/// What one look at the maps tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
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

/// One look at the maps, of the [`LOOKS`] that [`decide()`] takes at most.
#[inline(always)]
pub fn look<M: Maps>(maps: &M, to: &Destination) -> Look {
    match find_entry(maps, to) {
        Found::Nothing => Look::Miss,
        Found::Changed => Look::Changed,
        Found::Entry(range, slot) => {
            choose(maps, to, range, slot).map_or(Look::Changed, Look::Verdict)
        }
    }
}

/// The entry for a destination.
#[inline(always)]
fn find_entry<M: Maps>(maps: &M, to: &Destination) -> Found {
    // Every VIP has a head entry: one lookup tells a VIP from anything else.
    let found = find(maps, &VipKey::head(to.scope, to.ip));
    match &found {
        Found::Entry(_, slot) if slot.flags & Slot::LIMITED != 0 => find_limited(maps, to),
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

/// The entries that may serve a destination of a limited VIP, most specific first.
#[inline(always)]
fn limited_keys(to: &Destination) -> [VipKey; 3] {
    // With port 0 it would be the head.
    let any_protocol = if to.port == ANY_PORT { to.protocol } else { ANY_PROTOCOL };
    [
        VipKey::new(to.scope, to.ip, to.port, to.protocol),
        VipKey::new(to.scope, to.ip, to.port, any_protocol),
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
    // Also where nothing is left to choose, or chance decides: the cursor is how many connections there
    // were.
    let turn = if to.is_question() {
        maps.next_udp_connect(first.cursor)?
    } else if to.is_udp_connect() {
        maps.take_turn(first.cursor, Count::UdpConnects)?
    } else {
        maps.take_turn(first.cursor, Count::Sent)?
    };
    let (index, slot) = if range.count == 1 {
        (range.first, first)
    } else {
        let number = if first.flags & Slot::RANDOM == 0 { turn } else { u64::from(maps.random()) };
        let index = range.first.wrapping_add((number % u64::from(range.count)) as u32);
        (index, maps.slot(index)?)
    };
    // The first slot told that the list is the key's own; this tells that the turn is in it.
    if slot.owner != first.owner || slot.flags & (Slot::LIMITED | Slot::UNREACHABLE) != 0 {
        return None;
    }
    Some(Verdict::Redirect(Target {
        ip: slot.ip,
        port: port(&slot, to),
        slot: index,
        flags: slot.flags & Slot::STRICT,
    }))
}

/// The port to go to at a backend.
#[inline(always)]
fn port(slot: &Slot, to: &Destination) -> u16 {
    // A question stays one: with port 0, the kernel knows no peer (`inet_getname`).
    if slot.port == 0 || to.is_question() { to.port } else { slot.port }
}

#[cfg(test)]
mod tests;
