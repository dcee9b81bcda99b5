//! The flows of one socket: finds one, stores one, and shows the VIP of an answer.

use crate::{
    abi::{AppId, ConnRecord, UdpFlow, UdpFlowFlags, UdpFlows},
    destination::{Destination, Socket},
    ticks::Ticks,
};

impl UdpFlows {
    /// The position of the flow to which a datagram of the socket to `to` belongs; [`UdpFlows::CAPACITY`] if
    /// there is none that lives.
    #[inline(always)]
    pub fn position(&self, to: &Destination, socket: &Socket, now: Ticks) -> usize {
        if socket.local_port == 0 {
            return Self::CAPACITY;
        }
        let takes = |flow: &UdpFlow| flow.takes(to, socket.local_port, now);
        self.flows.iter().position(takes).unwrap_or(Self::CAPACITY)
    }

    /// Puts a flow first, in place of an older record of it. The others move on by one, up to the first that
    /// has ended. Returns `false` if none has ended, and the last one had to make room.
    #[inline(always)]
    pub fn store(&mut self, flow: &UdpFlow, now: Ticks) -> bool {
        let ConnRecord { app, vip, vip_port, .. } = flow.record;
        let mut carry = *flow;
        for place in &mut self.flows {
            // Again one comparison: the place has the same flow, or is free, or its flow has ended.
            let differs = place.differs(AppId(app), vip, vip_port, flow.local_port);
            let used = u32::from_ne_bytes(place.record.vip);
            let lives = 1 - now.reached(place.expires);
            if u64::from(differs) * u64::from(used) * u64::from(lives) == 0 {
                *place = carry;
                return true;
            }
            // Not core::mem::swap: for BPF, LLVM makes it byte by byte.
            (*place, carry) = (carry, *place);
        }
        false
    }

    /// The socket sends to an address itself: replies from there show that address, until the socket sends to
    /// the VIP again. Only flows of this app change. Where cgroups nest, the outer app's hook sees the
    /// backend that the inner one has put in place of a VIP.
    #[inline(always)]
    pub fn suppress_reply_translation(&mut self, to: &Destination) {
        for flow in &mut self.flows {
            if flow.shares_backend(to) {
                flow.flags |= UdpFlowFlags::REPLIES_UNTRANSLATED.bits();
            }
        }
    }

    /// Whether [`UdpFlows::suppress_reply_translation`] would change anything.
    #[inline(always)]
    pub fn has_backend(&self, to: &Destination) -> bool {
        self.flows.iter().any(|flow| flow.shares_backend(to))
    }

    /// The VIP and port to which a datagram from this address and port is an answer.
    #[inline(always)]
    pub fn reply_source(
        &mut self,
        ip: [u8; 4],
        port: u16,
        socket: &Socket,
        now: Ticks,
    ) -> Option<([u8; 4], u16)> {
        if socket.local_port == 0 {
            return None;
        }
        let answered = |flow: &&mut UdpFlow| flow.is_answered(ip, port, socket.local_port, now);
        let flow = self.flows.iter_mut().find(answered)?;
        // As in connection tracking, the first answer itself finds an unanswered flow.
        flow.refresh(now);
        flow.record.slot_and_flags |= ConnRecord::ANSWERED;
        Some((flow.record.vip, flow.record.vip_port))
    }

    /// The position of the flow through which a socket is still connected after its last connect failed, no
    /// matter when it last sent. [`UdpFlows::CAPACITY`] if there is none.
    #[inline(always)]
    pub fn position_of_peer(&self, ip: [u8; 4], port: u16, local_port: u16) -> usize {
        if local_port == 0 {
            return Self::CAPACITY;
        }
        let is_peer = |flow: &UdpFlow| flow.is_peer(ip, port, local_port);
        self.flows.iter().position(is_peer).unwrap_or(Self::CAPACITY)
    }
}

#[cfg(test)]
mod tests;
