//! Maps in memory that tests fill, and the effect of a verdict that an application notices.

extern crate std;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    vec::Vec,
};

use crate::{
    abi::{AppId, Protocol, Range, Slot, SlotFlags, VipKey},
    decide::decide,
    destination::Destination,
    maps::{Count, Maps},
    outlined::Outlined,
    verdict::{Target, Verdict},
};

pub(crate) const VIP: [u8; 4] = [169, 254, 37, 209];
pub(crate) const OTHER: [u8; 4] = [169, 254, 206, 224];
pub(crate) const TCP: Protocol = Protocol::Tcp;
pub(crate) const UDP: Protocol = Protocol::Udp;

/// Maps that a test fills; `stale` answers the next lookups of `vips` instead.
#[derive(Default)]
pub(crate) struct Simulated {
    pub(crate) vips: HashMap<VipKey, Range>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) cursors: RefCell<HashMap<(u32, Count), u64>>,
    pub(crate) stale: RefCell<Vec<Option<Range>>>,
    pub(crate) chance: Cell<u32>,
}

impl Simulated {
    /// Adds an entry with slots of these backends. The number is the last byte of a backend's address.
    pub(crate) fn add(&mut self, key: VipKey, backends: &[(u8, u16)], flags: SlotFlags) -> Range {
        let range = Range { first: self.slots.len() as u32, count: backends.len() as u32 };
        let cursor = u32::from(key.vip[3]);
        self.slots.extend(backends.iter().map(|(last, port)| Slot {
            owner: key,
            ip: [240, 0, 0, *last],
            port: *port,
            flags: flags.bits(),
            cursor,
        }));
        self.vips.insert(key, range);
        range
    }

    pub(crate) fn turns(&self) -> u64 {
        self.cursors.borrow().values().sum()
    }
}

impl Maps for Simulated {
    fn entry(&self, key: &VipKey) -> Option<Range> {
        let stale = self.stale.borrow_mut().pop();
        stale.unwrap_or_else(|| self.vips.get(key).copied())
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(index as usize).copied()
    }

    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let turn = cursors.entry((cursor, count)).or_default();
        *turn = turn.wrapping_add(1);
        Some(turn.wrapping_sub(1))
    }

    fn peek_turn(&self, cursor: u32, count: Count) -> Option<u64> {
        let cursors = self.cursors.borrow();
        Some(cursors.get(&(cursor, count)).copied().unwrap_or_default())
    }

    fn random(&self) -> u32 {
        // xorshift32 (Marsaglia, 2003): evenly spread and the same in each run.
        let mut x = self.chance.get().max(1);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.chance.set(x);
        x
    }
}

pub(crate) fn to(app: u32, ip: [u8; 4], port: u16, protocol: Protocol) -> Destination {
    Destination { app: AppId(app), ip, port, protocol, connect: true }
}

/// The effect of a verdict that an application notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Pass,
    Unreachable,
    Retry,
    Redirect(u8, u16),
}

pub(crate) fn seen(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Pass => Seen::Pass,
        Verdict::Unreachable => Seen::Unreachable,
        Verdict::Retry => Seen::Retry,
        Verdict::Redirect(Target { ip: [240, 0, 0, last], port, .. }) => Seen::Redirect(last, port),
        Verdict::Redirect(target) => panic!("{target:?} is no backend"),
    }
}

pub(crate) fn decided(maps: &Simulated, to: Destination) -> Seen {
    seen(decide(maps, &to))
}

impl Outlined for Simulated {}

/// The key of an app's head entry for a VIP.
pub(crate) fn head(app: u32, vip: [u8; 4]) -> VipKey {
    VipKey::head(AppId(app), vip)
}

/// The backend that a new connection gets.
pub(crate) fn target(maps: &Simulated, to: Destination) -> Target {
    match decide(maps, &to) {
        Verdict::Redirect(target) => target,
        other => panic!("{other:?}"),
    }
}
