//! One record or flow: how it is made, to which destination and peer it belongs, and when it ends.

use crate::{
    abi::{AppId, ConnRecord, SlotFlags, UdpFlow, UdpFlowFlags},
    destination::{Destination, Socket},
    ticks::Ticks,
    verdict::Target,
};

/// The lifetime of a flow without traffic, in seconds: `nf_conntrack_udp_timeout`.
const UNANSWERED: u32 = 30;
/// The same for an answered flow that is [`STREAM`] old: `nf_conntrack_udp_timeout_stream`.
const ANSWERED: u32 = 120;
/// The age from which an answered flow is a stream, in seconds.
const STREAM: u32 = 2;

impl ConnRecord {
    /// All bits but the two flags.
    const SLOT: u32 = Self::STRICT - 1;

    /// The record of a connect, or of the first datagram of a flow.
    #[inline(always)]
    pub fn new(to: &Destination, target: &Target, now: Ticks) -> Self {
        Self {
            app: to.app.0,
            vip: to.ip,
            backend: target.ip,
            vip_port: to.port,
            backend_port: target.port,
            slot_and_flags: Self::hint(target),
            stream_after: now.plus(STREAM),
        }
    }

    /// The backend as the decision gave it.
    #[inline(always)]
    pub fn target(&self) -> Target {
        let strict = self.slot_and_flags & Self::STRICT != 0;
        Target {
            ip: self.backend,
            slot: self.slot_and_flags & Self::SLOT,
            port: self.backend_port,
            flags: if strict { SlotFlags::STRICT } else { SlotFlags::empty() },
        }
    }

    /// Notes the slot of this target. The flow stays with its backend, which the table now has in that slot.
    #[inline(always)]
    pub fn set_slot(&mut self, target: &Target) {
        self.slot_and_flags = self.slot_and_flags & Self::ANSWERED | Self::hint(target);
    }

    #[inline(always)]
    const fn hint(target: &Target) -> u32 {
        let strict = if target.is_strict() { Self::STRICT } else { 0 };
        target.slot & Self::SLOT | strict
    }

    /// Whether it was made for this destination.
    #[inline(always)]
    pub fn is_to(&self, to: &Destination) -> bool {
        self.vip == to.ip && self.vip_port == to.port && self.app == to.app.0
    }

    /// Whether the socket is connected through a VIP, and this is the record of that.
    #[inline(always)]
    pub fn is_peer_of(&self, socket: &Socket) -> bool {
        socket.connected && self.shown_peer(socket.peer, socket.peer_port).is_some()
    }

    /// Whether it records a connect that led to this address and port, through a VIP or not.
    #[inline(always)]
    pub fn has_backend(&self, ip: [u8; 4], port: u16) -> bool {
        self.backend == ip && self.backend_port == port
    }

    /// The VIP and port to show to the application instead of a peer or source that the kernel sees. `None`:
    /// it is not translated, or the socket has moved on; leave the address alone.
    #[inline(always)]
    pub fn shown_peer(&self, ip: [u8; 4], port: u16) -> Option<([u8; 4], u16)> {
        let translated = self.vip != [0; 4] && self.has_backend(ip, port);
        translated.then_some((self.vip, self.vip_port))
    }
}

impl UdpFlow {
    /// A flow that the socket sends through now, or may have sent through until now. The second is a socket
    /// that connects elsewhere: the kernel does not tell when it last sent.
    #[inline(always)]
    pub fn new(record: &ConnRecord, socket: &Socket, now: Ticks) -> Self {
        let mut flow =
            Self { record: *record, local_port: socket.local_port, flags: 0, expires: 0 };
        flow.refresh(now);
        flow
    }

    /// The flow of a connected socket that connects again: [`UdpFlowFlags::PEER`].
    #[inline(always)]
    pub fn of_peer(record: &ConnRecord, socket: &Socket, now: Ticks) -> Self {
        let mut flow = Self::new(record, socket, now);
        flow.flags = UdpFlowFlags::PEER.bits();
        flow
    }

    #[inline(always)]
    pub(super) fn refresh(&mut self, now: Ticks) {
        let answered = self.record.slot_and_flags & ConnRecord::ANSWERED != 0;
        let stream = answered && !now.is_before(self.record.stream_after);
        self.expires = now.plus(if stream { ANSWERED } else { UNANSWERED });
    }

    // Each function below is one comparison: after each failed one, the verifier checks the rest of the hook.

    /// 0 if this is the flow of a VIP and port for this port of the socket.
    #[inline(always)]
    pub(super) fn differs(&self, app: AppId, vip: [u8; 4], vip_port: u16, local_port: u16) -> u32 {
        let vips = u32::from_ne_bytes(self.record.vip) ^ u32::from_ne_bytes(vip);
        let ports = self.record.vip_port ^ vip_port | self.local_port ^ local_port;
        vips | self.record.app ^ app.0 | u32::from(ports)
    }

    /// Whether a datagram to `to` belongs to this flow now. The socket has this port, which is not 0.
    #[inline(always)]
    pub(super) fn takes(&self, to: &Destination, local_port: u16, now: Ticks) -> bool {
        self.differs(to.app, to.ip, to.port, local_port) | now.reached(self.expires) == 0
    }

    /// 0 if a datagram from an address and port belongs to this flow. It was sent to this port of the socket,
    /// which is not 0. A free place has no port.
    #[inline(always)]
    fn ignores(&self, ip: [u8; 4], port: u16, local_port: u16) -> u32 {
        let ips = u32::from_ne_bytes(self.record.backend) ^ u32::from_ne_bytes(ip);
        let ports = self.record.backend_port ^ port | self.local_port ^ local_port;
        ips | u32::from(ports | self.flags & UdpFlowFlags::REPLIES_UNTRANSLATED.bits())
    }

    /// Whether a datagram from an address and port answers this flow, and the flow still lives.
    #[inline(always)]
    pub(super) fn is_answered(&self, ip: [u8; 4], port: u16, local_port: u16, now: Ticks) -> bool {
        self.ignores(ip, port, local_port) | now.reached(self.expires) == 0
    }

    /// Whether a socket is connected through this flow to an address and port, unless a later connect
    /// succeeded. The socket has this port, which is not 0.
    #[inline(always)]
    pub(super) fn is_peer(&self, ip: [u8; 4], port: u16, local_port: u16) -> bool {
        self.ignores(ip, port, local_port) | u32::from(self.flags ^ UdpFlowFlags::PEER.bits()) == 0
    }

    /// Whether a datagram to the address `to` itself goes where this flow goes, and the flow has the same
    /// app. A free place has no app.
    #[inline(always)]
    pub(super) fn shares_backend(&self, to: &Destination) -> bool {
        let ips = u32::from_ne_bytes(self.record.backend) ^ u32::from_ne_bytes(to.ip);
        ips | self.record.app ^ to.app.0 | u32::from(self.record.backend_port ^ to.port) == 0
    }
}

#[cfg(test)]
mod tests;
