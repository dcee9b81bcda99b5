//! UDP flows: which backend the datagrams of a socket go on to, and which VIP its answers come from.
//!
//! A flow is what an entry of connection tracking is: a socket's port, a VIP and a port of it. It
//! lives as long as such an entry does (`nf_conntrack_udp_packet` in
//! net/netfilter/nf_conntrack_proto_udp.c, with the default timeouts).

use crate::{
    decide::{Destination, Target},
    layout::{Datagrams, Flow, Slot},
};

/// How long a flow lives without traffic, in seconds: `nf_conntrack_udp_timeout`.
const UNANSWERED: u32 = 30;
/// The same for one that is answered and [`STREAM`] old: `nf_conntrack_udp_timeout_stream`.
const ANSWERED: u32 = 120;
/// From which age on, in seconds.
const STREAM: u32 = 2;

/// A point in time: CLOCK_MONOTONIC in units of 2^26 ns (67 ms), which is right for four years and
/// a half, half of the time in which it wraps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(pub u32);

impl Moment {
    const SHIFT: u32 = 26;

    /// From CLOCK_MONOTONIC in nanoseconds.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    #[inline(always)]
    const fn plus(self, seconds: u32) -> u32 {
        let units = (seconds as u64 * 1_000_000_000) >> Self::SHIFT;
        self.0.wrapping_add(units as u32 + 1)
    }

    /// Whether a moment is still to come.
    #[inline(always)]
    const fn is_before(self, moment: u32) -> bool {
        moment.wrapping_sub(self.0).cast_signed() > 0
    }
}

/// What there is to know of a socket when a hook runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Its own port, host byte order; 0 if it has none yet.
    pub local_port: u16,
    /// Whether it is connected.
    pub connected: bool,
    /// To which address, network byte order.
    pub peer: [u8; 4],
    /// To which port, host byte order.
    pub peer_port: u16,
    /// When that is.
    pub now: Moment,
}

impl Flow {
    /// A flow that begins.
    #[inline(always)]
    pub fn new(to: &Destination, target: &Target, socket: &Socket) -> Self {
        let mut flow = Self {
            scope: to.scope,
            vip: to.ip,
            vip_port: to.port,
            stream: socket.now.plus(STREAM),
            ..Self::default()
        };
        flow.sent(target, socket);
        flow
    }

    /// A datagram goes to where the decision said.
    #[inline(always)]
    pub fn sent(&mut self, target: &Target, socket: &Socket) {
        self.local_port = socket.local_port;
        self.backend = target.ip;
        self.backend_port = target.port;
        self.slot = target.slot;
        self.flags &= Self::ANSWERED;
        if target.flags & Slot::STRICT != 0 {
            self.flags |= Self::STRICT;
        }
        self.refresh(socket.now);
    }

    /// A socket that was connected through this flow connects elsewhere. How long ago it last sent
    /// nobody knows; it is taken for now.
    #[inline(always)]
    pub fn left(&mut self, socket: &Socket) {
        self.local_port = socket.local_port;
        self.refresh(socket.now);
    }

    #[inline(always)]
    fn refresh(&mut self, now: Moment) {
        let stream = self.flags & Self::ANSWERED != 0 && !now.is_before(self.stream);
        self.expires = now.plus(if stream { ANSWERED } else { UNANSWERED });
    }

    /// Whether what this socket sends to `to` belongs to this flow.
    #[inline(always)]
    pub fn leads_to(&self, to: &Destination) -> bool {
        self.vip == to.ip && self.vip_port == to.port && self.scope == to.scope
    }

    /// Whether this is what the socket is connected through.
    #[inline(always)]
    pub fn is_peer_of(&self, socket: &Socket) -> bool {
        socket.connected && self.comes_from(socket.peer, socket.peer_port)
    }

    /// Whether this is what the socket is connected through, and leads to `to`.
    #[inline(always)]
    pub fn connects(&self, to: &Destination, socket: &Socket) -> bool {
        self.is_peer_of(socket) && self.leads_to(to)
    }

    /// Whether this is the VIP that an address and port stand for.
    #[inline(always)]
    fn comes_from(&self, ip: [u8; 4], port: u16) -> bool {
        self.vip != [0; 4] && self.backend == ip && self.backend_port == port
    }

    #[inline(always)]
    fn is_of(&self, socket: &Socket) -> bool {
        self.local_port == socket.local_port && self.local_port != 0
    }
}

/// The flow that a connect of a UDP socket belongs to, if there is one: the one it is connected
/// through already, by what it noted of that, or one that it kept.
#[inline(always)]
pub fn known(
    to: &Destination,
    socket: &Socket,
    note: Option<&Flow>,
    datagrams: Option<&Datagrams>,
) -> Option<Flow> {
    match note {
        Some(note) if note.connects(to, socket) => Some(*note),
        _ => datagrams?.find(to, socket),
    }
}

/// The address and port that an application should see for a datagram's source or a socket's peer
/// that the kernel sees. `None`: not translated, or the socket has moved on; leave it alone.
#[inline(always)]
pub fn shown_peer(note: &Flow, ip: [u8; 4], port: u16) -> Option<([u8; 4], u16)> {
    note.comes_from(ip, port).then_some((note.vip, note.vip_port))
}

impl Datagrams {
    /// The flow that what a socket sends to `to` belongs to, if there is one that lives.
    #[inline(always)]
    pub fn find(&self, to: &Destination, socket: &Socket) -> Option<Flow> {
        for flow in &self.flows {
            if flow.leads_to(to) && flow.is_of(socket) && socket.now.is_before(flow.expires) {
                return Some(*flow);
            }
        }
        None
    }

    /// Puts a flow first, and whatever was there of it out. The others move on by one, up to the first
    /// that has ended. Returns `false` if none has, and the last one had to make room.
    #[inline(always)]
    pub fn keep(&mut self, flow: &Flow, now: Moment) -> bool {
        let mut carry = *flow;
        for place in &mut self.flows {
            core::mem::swap(place, &mut carry);
            let same = carry.vip == flow.vip
                && carry.vip_port == flow.vip_port
                && carry.scope == flow.scope
                && carry.local_port == flow.local_port;
            if same || carry.vip == [0; 4] || !now.is_before(carry.expires) {
                return true;
            }
        }
        false
    }

    /// The socket sends to an address itself: what comes from there is not a VIP's, until something
    /// is sent to the VIP again. Of this app's VIPs: where cgroups nest, the outer app's hook sees the
    /// backend that the inner one has put in place of a VIP.
    #[inline(always)]
    pub fn hide(&mut self, to: &Destination) {
        for flow in &mut self.flows {
            if flow.scope == to.scope && flow.comes_from(to.ip, to.port) {
                flow.flags |= Flow::HIDDEN;
            }
        }
    }

    /// The VIP and port that a datagram from this address and port answers to.
    #[inline(always)]
    pub fn answered(&mut self, ip: [u8; 4], port: u16, socket: &Socket) -> Option<([u8; 4], u16)> {
        for flow in &mut self.flows {
            if flow.comes_from(ip, port)
                && flow.flags & Flow::HIDDEN == 0
                && flow.is_of(socket)
                && socket.now.is_before(flow.expires)
            {
                // As in connection tracking, the first answer itself finds an unanswered flow.
                flow.refresh(socket.now);
                flow.flags |= Flow::ANSWERED;
                return Some((flow.vip, flow.vip_port));
            }
        }
        None
    }

    /// The VIP and port that a connected socket's peer stands for, however long ago that was.
    #[inline(always)]
    pub fn peer(&self, ip: [u8; 4], port: u16, local_port: u16) -> Option<([u8; 4], u16)> {
        for flow in &self.flows {
            if flow.comes_from(ip, port)
                && flow.flags & Flow::HIDDEN == 0
                && flow.local_port == local_port
            {
                return Some((flow.vip, flow.vip_port));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
