//! The parts of a decision that are separate functions in the hooks. The verifier checks each once, instead
//! of on each path that leads to it. Elsewhere they are inlined.

use crate::{
    abi::{UdpFlow, UdpFlows},
    destination::{Destination, Socket},
    flow::relocate,
    lookup::{self, Lookup},
    maps::Maps,
    ticks::Ticks,
    verdict::Target,
};

/// Maps with these parts. Every default runs the code inline.
pub trait Outlined: Maps + Sized {
    /// [`lookup::lookup_once`] with these maps.
    #[inline(always)]
    fn lookup_once(&self, to: &Destination) -> Lookup {
        lookup::lookup_once(self, to)
    }

    /// [`relocate::slot_matches`] with these maps.
    #[inline(always)]
    fn slot_matches(&self, index: u32, to: &Destination, had: &Target) -> bool {
        relocate::slot_matches(self, index, to, had)
    }

    /// [`relocate::find_relocated_slot`] with these maps.
    #[inline(always)]
    fn find_relocated_slot(&self, to: &Destination, had: &Target) -> u32 {
        relocate::find_relocated_slot(self, to, |index| self.slot_matches(index, to, had))
    }

    /// [`UdpFlows::position`].
    #[inline(always)]
    fn find_flow(&self, flows: &UdpFlows, to: &Destination, socket: &Socket, now: Ticks) -> usize {
        flows.position(to, socket, now)
    }

    /// [`UdpFlows::store`].
    #[inline(always)]
    fn store_flow(&self, flows: &mut UdpFlows, flow: &UdpFlow, now: Ticks) -> bool {
        flows.store(flow, now)
    }
}
