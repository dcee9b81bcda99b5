//! UDP flows: which backend the datagrams of a socket go on to, and which VIP its answers come from.
//!
//! A flow is what an entry of connection tracking is: a socket's port, a VIP and a port of it. It
//! lives as long as such an entry does (`nf_conntrack_udp_packet` in
//! net/netfilter/nf_conntrack_proto_udp.c, with the default timeouts).

use crate::{
    decide::{Destination, Maps, Target, follow},
    layout::{Datagrams, Flow, Note, Slot},
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
        self.reached(moment) == 0
    }

    /// 1 when a moment has come, 0 before.
    #[inline(always)]
    const fn reached(self, moment: u32) -> u32 {
        !self.0.wrapping_sub(moment) >> 31
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
}

impl Socket {
    /// Whether the socket is connected to this very address and port.
    #[inline(always)]
    pub fn is_connected_to(&self, to: &Destination) -> bool {
        self.connected && self.peer == to.ip && self.peer_port == to.port
    }
}

impl Note {
    /// All but the two flags.
    const SLOT: u32 = Self::STRICT - 1;

    /// What is noted of a connect, or of the first datagram of a flow.
    #[inline(always)]
    pub fn new(to: &Destination, target: &Target, now: Moment) -> Self {
        Self {
            scope: to.scope,
            vip: to.ip,
            backend: target.ip,
            vip_port: to.port,
            backend_port: target.port,
            slot: Self::hint(target),
            stream: now.plus(STREAM),
        }
    }

    /// The backend as the decision gave it.
    #[inline(always)]
    pub fn target(&self) -> Target {
        Target {
            ip: self.backend,
            slot: self.slot & Self::SLOT,
            port: self.backend_port,
            flags: if self.slot & Self::STRICT == 0 { 0 } else { Slot::STRICT },
        }
    }

    /// What is sent goes on to the backend, which the table has at this place now.
    #[inline(always)]
    pub fn goes_on(&mut self, target: &Target) {
        self.slot = self.slot & Self::ANSWERED | Self::hint(target);
    }

    #[inline(always)]
    const fn hint(target: &Target) -> u32 {
        let strict = if target.flags & Slot::STRICT == 0 { 0 } else { Self::STRICT };
        target.slot & Self::SLOT | strict
    }

    /// Whether what this socket sends to `to` belongs to this.
    #[inline(always)]
    pub fn leads_to(&self, to: &Destination) -> bool {
        self.vip == to.ip && self.vip_port == to.port && self.scope == to.scope
    }

    /// Whether this is what the socket is connected through.
    #[inline(always)]
    pub fn is_peer_of(&self, socket: &Socket) -> bool {
        socket.connected && self.comes_from(socket.peer, socket.peer_port)
    }

    /// Whether this is the VIP that an address and port stand for.
    #[inline(always)]
    fn comes_from(&self, ip: [u8; 4], port: u16) -> bool {
        self.vip != [0; 4] && self.is_about(ip, port)
    }

    /// Whether this was noted of a connect that led to an address and port, through a VIP or not.
    #[inline(always)]
    pub fn is_about(&self, ip: [u8; 4], port: u16) -> bool {
        self.backend == ip && self.backend_port == port
    }
}

impl Flow {
    /// A flow that something is sent through now, or may have been: a socket that was connected
    /// through it connects elsewhere, and nobody knows how long ago it last sent.
    #[inline(always)]
    pub fn new(note: &Note, socket: &Socket, now: Moment) -> Self {
        let mut flow = Self { note: *note, local_port: socket.local_port, flags: 0, expires: 0 };
        flow.refresh(now);
        flow
    }

    /// The flow that a socket is connected through, which connects again: [`Flow::PEER`].
    #[inline(always)]
    pub fn of_peer(note: &Note, socket: &Socket, now: Moment) -> Self {
        let mut flow = Self::new(note, socket, now);
        flow.flags = Self::PEER;
        flow
    }

    #[inline(always)]
    fn refresh(&mut self, now: Moment) {
        let stream = self.note.slot & Note::ANSWERED != 0 && !now.is_before(self.note.stream);
        self.expires = now.plus(if stream { ANSWERED } else { UNANSWERED });
    }

    // Each of the following is one comparison: the verifier looks at what follows each that fails.

    /// 0 if this is the flow of a VIP and port for a port of the socket's own.
    #[inline(always)]
    fn differs(&self, scope: u32, vip: [u8; 4], vip_port: u16, local_port: u16) -> u32 {
        let vips = u32::from_ne_bytes(self.note.vip) ^ u32::from_ne_bytes(vip);
        let ports = self.note.vip_port ^ vip_port | self.local_port ^ local_port;
        vips | self.note.scope ^ scope | u32::from(ports)
    }

    /// Whether what a socket with this port, which is not 0, sends to `to` now belongs to this flow.
    #[inline(always)]
    fn takes(&self, to: &Destination, local_port: u16, now: Moment) -> bool {
        self.differs(to.scope, to.ip, to.port, local_port) | now.reached(self.expires) == 0
    }

    /// 0 if a datagram from an address and port to a port of the socket's own, which is not 0, belongs
    /// to this flow. A free place has no port.
    #[inline(always)]
    fn ignores(&self, ip: [u8; 4], port: u16, local_port: u16) -> u32 {
        let ips = u32::from_ne_bytes(self.note.backend) ^ u32::from_ne_bytes(ip);
        let ports = self.note.backend_port ^ port | self.local_port ^ local_port;
        ips | u32::from(ports | self.flags & Self::HIDDEN)
    }

    /// Whether a socket with this port, which is not 0, is connected through this flow to an address and
    /// port, unless a later connect succeeded.
    #[inline(always)]
    fn is_peer(&self, ip: [u8; 4], port: u16, local_port: u16) -> bool {
        self.ignores(ip, port, local_port) | u32::from(self.flags ^ Self::PEER) == 0
    }

    /// Whether what is sent to `to` itself goes where this flow of the same app goes. A free place is no
    /// app's.
    #[inline(always)]
    fn is_beside(&self, to: &Destination) -> bool {
        let ips = u32::from_ne_bytes(self.note.backend) ^ u32::from_ne_bytes(to.ip);
        ips | self.note.scope ^ to.scope | u32::from(self.note.backend_port ^ to.port) == 0
    }
}

/// The address and port that an application should see for a datagram's source or a socket's peer
/// that the kernel sees. `None`: not translated, or the socket has moved on; leave it alone.
#[inline(always)]
pub fn shown_peer(note: &Note, ip: [u8; 4], port: u16) -> Option<([u8; 4], u16)> {
    note.comes_from(ip, port).then_some((note.vip, note.vip_port))
}

impl Datagrams {
    /// What a socket sends to `to` goes on as the flow that it belongs to, if one lives and the table
    /// still has its backend. That flow is then the first one.
    #[inline(always)]
    pub fn go_on<M: Maps>(
        &mut self,
        maps: &M,
        to: &Destination,
        socket: &Socket,
        now: Moment,
    ) -> Option<Note> {
        let place = maps.find(self, to, socket, now);
        let mut note = self.flows.get(place)?.note;
        note.goes_on(&follow(maps, to, &note.target())?);
        maps.keep(self, &Flow::new(&note, socket, now), now);
        Some(note)
    }

    /// [`Datagrams::go_on`], if the flow is the first one already, as it usually is.
    #[inline(always)]
    pub fn go_on_first<M: Maps>(
        &mut self,
        maps: &M,
        to: &Destination,
        socket: &Socket,
        now: Moment,
    ) -> Option<Note> {
        let [flow, ..] = &mut self.flows;
        if socket.local_port == 0 || !flow.takes(to, socket.local_port, now) {
            return None;
        }
        flow.note.goes_on(&follow(maps, to, &flow.note.target())?);
        flow.flags = 0;
        flow.refresh(now);
        Some(flow.note)
    }

    /// The place of the flow that what a socket sends to `to` belongs to; [`Datagrams::CAPACITY`] if
    /// none lives.
    #[inline(always)]
    pub fn find(&self, to: &Destination, socket: &Socket, now: Moment) -> usize {
        if socket.local_port == 0 {
            return Self::CAPACITY;
        }
        let takes = |flow: &Flow| flow.takes(to, socket.local_port, now);
        self.flows.iter().position(takes).unwrap_or(Self::CAPACITY)
    }

    /// Puts a flow first, and whatever was there of it out. The others move on by one, up to the first
    /// that has ended. Returns `false` if none has, and the last one had to make room.
    #[inline(always)]
    pub fn keep(&mut self, flow: &Flow, now: Moment) -> bool {
        let Note { scope, vip, vip_port, .. } = flow.note;
        let mut carry = *flow;
        for place in &mut self.flows {
            // One comparison again: it is the same flow, or a free place, or has ended.
            let differs = place.differs(scope, vip, vip_port, flow.local_port);
            let used = u32::from_ne_bytes(place.note.vip);
            let lives = 1 - now.reached(place.expires);
            if u64::from(differs) * u64::from(used) * u64::from(lives) == 0 {
                *place = carry;
                return true;
            }
            // Not core::mem::swap, which LLVM makes byte by byte for BPF.
            (*place, carry) = (carry, *place);
        }
        false
    }

    /// The socket sends to an address itself: what comes from there is not a VIP's, until something
    /// is sent to the VIP again. Of this app's VIPs: where cgroups nest, the outer app's hook sees the
    /// backend that the inner one has put in place of a VIP.
    #[inline(always)]
    pub fn hide(&mut self, to: &Destination) {
        for flow in &mut self.flows {
            if flow.is_beside(to) {
                flow.flags |= Flow::HIDDEN;
            }
        }
    }

    /// The VIP and port that a datagram from this address and port answers to.
    #[inline(always)]
    pub fn answered(
        &mut self,
        ip: [u8; 4],
        port: u16,
        socket: &Socket,
        now: Moment,
    ) -> Option<([u8; 4], u16)> {
        if socket.local_port == 0 {
            return None;
        }
        let answers = |flow: &Flow| {
            flow.ignores(ip, port, socket.local_port) | now.reached(flow.expires) == 0
        };
        let flow = self.flows.iter_mut().find(|flow| answers(flow))?;
        // As in connection tracking, the first answer itself finds an unanswered flow.
        flow.refresh(now);
        flow.note.slot |= Note::ANSWERED;
        Some((flow.note.vip, flow.note.vip_port))
    }

    /// The place of the flow that a socket whose last connect failed still is connected through, however
    /// long ago something was sent; [`Datagrams::CAPACITY`] if there is none.
    #[inline(always)]
    pub fn peer(&self, ip: [u8; 4], port: u16, local_port: u16) -> usize {
        if local_port == 0 {
            return Self::CAPACITY;
        }
        let is_peer = |flow: &Flow| flow.is_peer(ip, port, local_port);
        self.flows.iter().position(is_peer).unwrap_or(Self::CAPACITY)
    }

    /// Whether [`Datagrams::hide`] would change anything.
    #[inline(always)]
    pub fn is_hidden_by(&self, to: &Destination) -> bool {
        self.flows.iter().any(|flow| flow.is_beside(to))
    }
}

#[cfg(test)]
mod tests;
