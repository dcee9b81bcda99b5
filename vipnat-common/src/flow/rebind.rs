//! Sends a UDP flow on to its backend, as long as the table has that backend.

use super::relocate::{matches, serves};
use crate::{
    abi::{ConnRecord, SlotFlags, UdpFlow, UdpFlows},
    destination::{Destination, Socket},
    outlined::Outlined,
    ticks::Ticks,
    verdict::Target,
};

/// Where a UDP flow goes on: to the backend it had, as long as the table has it. `None` if the table no
/// longer has it.
#[inline(always)]
pub fn rebind<M: Outlined>(maps: &M, to: &Destination, had: &Target) -> Option<Target> {
    let matching = |index| {
        let slot = maps.slot(index).filter(|slot| serves(slot, to) && matches(slot, to, had))?;
        let flags = slot.flags().intersection(SlotFlags::STRICT);
        Some(Target { slot: index, flags, ..*had })
    };
    if let Some(target) = matching(had.slot) {
        return Some(target);
    }
    if let Some(target) = matching(maps.find_relocated_slot(to, had)) {
        return Some(target);
    }
    had.is_strict().then_some(*had)
}

impl UdpFlows {
    /// Sends a datagram of a socket to `to` on as the flow to which it belongs. That needs a living flow
    /// whose backend the table still has. The flow is then the first one.
    #[inline(always)]
    pub fn continue_flow<M: Outlined>(
        &mut self,
        maps: &M,
        to: &Destination,
        socket: &Socket,
        now: Ticks,
    ) -> Option<ConnRecord> {
        let position = maps.find_flow(self, to, socket, now);
        let mut record = self.flows.get(position)?.record;
        record.set_slot(&rebind(maps, to, &record.target())?);
        maps.store_flow(self, &UdpFlow::new(&record, socket, now), now);
        Some(record)
    }

    /// [`UdpFlows::continue_flow`], if the flow is already the first one, as it usually is.
    #[inline(always)]
    pub fn continue_first_flow<M: Outlined>(
        &mut self,
        maps: &M,
        to: &Destination,
        socket: &Socket,
        now: Ticks,
    ) -> Option<ConnRecord> {
        let [flow, ..] = &mut self.flows;
        if socket.local_port == 0 || !flow.takes(to, socket.local_port, now) {
            return None;
        }
        flow.record.set_slot(&rebind(maps, to, &flow.record.target())?);
        flow.flags = 0;
        flow.refresh(now);
        Some(flow.record)
    }
}

#[cfg(test)]
mod tests;
