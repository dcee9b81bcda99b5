//! A socket, its destinations and its flows, for tests.

use crate::{
    abi::{AppId, ConnRecord, Protocol, Range, Slot, SlotFlags, UdpFlow, VipKey},
    destination::{Destination, Socket},
    maps::{Count, Maps},
    outlined::Outlined,
    ticks::Ticks,
    verdict::Target,
};

pub(crate) const VIP: [u8; 4] = [169, 254, 37, 209];
pub(crate) const OTHER: [u8; 4] = [169, 254, 206, 224];
pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn at(seconds: u64) -> Ticks {
    // A point in the life of a machine, shortly before the unit wraps.
    Ticks::from_nanos(((1 << 32) << Ticks::SHIFT) - 60 * SECOND + seconds * SECOND)
}

pub(crate) const SOCKET: Socket =
    Socket { local_port: 4000, connected: false, peer: [0; 4], peer_port: 0 };

pub(crate) fn connected(last: u8) -> Socket {
    Socket { connected: true, peer: [240, 0, 0, last], peer_port: 53, ..SOCKET }
}

pub(crate) fn to(ip: [u8; 4]) -> Destination {
    Destination { app: AppId(1), ip, port: 53, protocol: Protocol::Udp, connect: false }
}

/// A target where flows stay without a table.
pub(crate) fn target(last: u8) -> Target {
    Target { ip: [240, 0, 0, last], port: 53, slot: 7, flags: SlotFlags::STRICT }
}

/// Maps without a table.
pub(crate) struct Nothing;

impl Maps for Nothing {
    fn entry(&self, _: &VipKey) -> Option<Range> {
        None
    }

    fn slot(&self, _: u32) -> Option<Slot> {
        None
    }

    fn take_turn(&self, _: u32, _: Count) -> Option<u64> {
        None
    }

    fn peek_turn(&self, _: u32, _: Count) -> Option<u64> {
        None
    }

    fn random(&self) -> u32 {
        0
    }
}

pub(crate) fn record(vip: [u8; 4], last: u8, seconds: u64) -> ConnRecord {
    ConnRecord::new(&to(vip), &target(last), at(seconds))
}

pub(crate) fn flow(vip: [u8; 4], last: u8, seconds: u64) -> UdpFlow {
    UdpFlow::new(&record(vip, last, seconds), &SOCKET, at(seconds))
}
impl Outlined for Nothing {}
