//! The decision over simulated maps: its table, its round robin, and maps that change underneath.

extern crate std;

use std::{cell::RefCell, collections::HashMap, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const VIP: [u8; 4] = [169, 254, 37, 209];
const OTHER: [u8; 4] = [169, 254, 206, 224];
const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;

/// Maps that a test fills; `stale` answers the next lookups of `vips` instead.
#[derive(Default)]
struct Simulated {
    vips: HashMap<VipKey, Range>,
    slots: Vec<Slot>,
    cursors: RefCell<HashMap<u32, u64>>,
    stale: RefCell<Vec<Option<Range>>>,
}

impl Simulated {
    /// Adds an entry with slots of these backends; the last byte of the address tells them apart.
    fn add(&mut self, key: VipKey, backends: &[(u8, u16)], flags: u16) -> Range {
        let range = Range { first: self.slots.len() as u32, count: backends.len() as u32 };
        let cursor = u32::from(key.vip[3]);
        self.slots.extend(backends.iter().map(|(last, port)| Slot {
            owner: key,
            ip: [240, 0, 0, *last],
            port: *port,
            flags,
            cursor,
        }));
        self.vips.insert(key, range);
        range
    }

    fn turns(&self) -> u64 {
        self.cursors.borrow().values().sum()
    }
}

impl Maps for Simulated {
    fn range(&self, key: &VipKey) -> Option<Range> {
        let stale = self.stale.borrow_mut().pop();
        stale.unwrap_or_else(|| self.vips.get(key).copied())
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(index as usize).copied()
    }

    fn take_turn(&self, cursor: u32) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let turn = cursors.entry(cursor).or_default();
        *turn = turn.wrapping_add(1);
        Some(turn.wrapping_sub(1))
    }
}

fn to(scope: u32, ip: [u8; 4], port: u16, protocol: Protocol) -> Destination {
    Destination { scope, ip, port, protocol }
}

fn redirect(last: u8, port: u16) -> Verdict {
    Verdict::Redirect { ip: [240, 0, 0, last], port }
}

#[test]
fn verdicts() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], 0);
    maps.add(VipKey::head(1, OTHER), &[(2, 6380)], 0);
    maps.add(VipKey::head(2, VIP), &[(3, 0)], 0);
    maps.add(VipKey::head(3, VIP), &[(0, 0)], Slot::UNREACHABLE);
    for (destination, verdict) in [
        // The port is kept unless the backend names one.
        (to(1, VIP, 5432, TCP), redirect(1, 5432)),
        (to(1, VIP, 0, UDP), redirect(1, 0)),
        (to(1, OTHER, 6379, TCP), redirect(2, 6380)),
        // Any protocol with a hook.
        (to(1, VIP, 7, Protocol::Reserved), redirect(1, 7)),
        // The same VIP of another app is another VIP.
        (to(2, VIP, 5432, TCP), redirect(3, 5432)),
        (to(2, OTHER, 5432, TCP), Verdict::Pass),
        (to(4, VIP, 5432, TCP), Verdict::Pass),
        (to(1, [240, 0, 0, 1], 5432, TCP), Verdict::Pass),
        (to(3, VIP, 5432, TCP), Verdict::Unreachable),
    ] {
        assert_eq!(decide(&maps, &destination), verdict, "{destination:?}");
    }
}

#[test]
fn limits_go_from_the_most_specific_to_none() {
    // Each set of entries, and what port 53 and 54 over UDP and TCP then give.
    let exact = (53, UDP);
    let port = (53, ANY_PROTOCOL);
    let protocol = (ANY_PORT, UDP);
    type Case<'a> = (&'a [(u16, Protocol)], [Option<u8>; 4]);
    let cases: [Case<'_>; 6] = [
        (&[], [None, None, None, None]),
        (&[exact], [Some(0), None, None, None]),
        (&[port], [Some(0), None, Some(0), None]),
        (&[protocol], [Some(0), Some(0), None, None]),
        (&[protocol, port], [Some(1), Some(0), Some(1), None]),
        (&[protocol, port, exact], [Some(2), Some(0), Some(1), None]),
    ];
    for (entries, expected) in cases {
        let mut maps = Simulated::default();
        maps.add(VipKey::head(1, VIP), &[(99, 0)], Slot::LIMITED);
        for (i, (port, protocol)) in entries.iter().enumerate() {
            maps.add(VipKey::new(1, VIP, *port, *protocol), &[(i as u8, 0)], 0);
        }
        let asked = [(53, UDP), (54, UDP), (53, TCP), (54, TCP)];
        for ((port, protocol), expected) in asked.into_iter().zip(expected) {
            let verdict = decide(&maps, &to(1, VIP, port, protocol));
            let expected = expected.map_or(Verdict::Pass, |i| redirect(i, port));
            assert_eq!(verdict, expected, "{entries:?} {port} {protocol:?}");
        }
    }
}

#[test]
fn an_entry_that_became_anothers_is_looked_up_again() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], 0);
    let other = maps.add(VipKey::head(2, VIP), &[(2, 0)], 0);
    let empty = maps.add(VipKey::head(3, VIP), &[(0, 0)], Slot::UNREACHABLE);
    let beyond = Range { first: 1000, count: 1 };
    maps.stale = vec![Some(beyond), Some(empty), Some(other)].into();
    assert_eq!(decide(&maps, &to(1, VIP, 5432, TCP)), redirect(1, 5432));
    // No turn of the other VIP was taken.
    assert_eq!(maps.turns(), 1);

    maps.stale = vec![Some(other); LOOKS as usize].into();
    assert_eq!(decide(&maps, &to(1, VIP, 5432, TCP)), Verdict::Unsettled);
    assert_eq!(maps.turns(), 1);
}

#[test]
fn a_limit_lifted_during_the_look_is_no_miss() {
    let mut maps = Simulated::default();
    let key = VipKey::head(1, VIP);
    let limited = maps.add(key, &[(99, 0)], Slot::LIMITED);
    maps.add(key, &[(1, 0)], 0);
    // The head as it was; by the time the limited keys are looked up, they are gone.
    maps.stale = vec![Some(limited)].into();
    assert_eq!(decide(&maps, &to(1, VIP, 5432, TCP)), redirect(1, 5432));
}

/// Replacing a hash element is not atomic for readers: for a moment they may find neither.
#[test]
fn a_lookup_that_misses_an_entry_being_replaced_is_repeated() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], 0);
    for misses in 1..MISSES {
        maps.stale = vec![None; misses as usize].into();
        assert_eq!(decide(&maps, &to(1, VIP, 5432, TCP)), redirect(1, 5432), "{misses}");
    }
    // The same for the limited entry of a limited VIP, behind a head that stands.
    let head = maps.add(VipKey::head(1, OTHER), &[(0, 0)], Slot::LIMITED);
    maps.add(VipKey::new(1, OTHER, 80, TCP), &[(2, 0)], 0);
    maps.stale = vec![None, None, None, Some(head)].into();
    assert_eq!(decide(&maps, &to(1, OTHER, 80, TCP)), redirect(2, 80));
}

#[test]
fn addresses_outside_the_range_of_vips_cost_no_lookup() {
    let maps = Simulated::default();
    // Would be served, if anybody asked.
    maps.stale.borrow_mut().push(Some(Range { first: 0, count: 1 }));
    assert_eq!(decide(&maps, &to(1, [240, 0, 0, 1], 5432, TCP)), Verdict::Pass);
    assert_eq!(maps.stale.borrow().len(), 1);
}

#[test]
fn getpeername_shows_the_vip_only_to_the_flow_it_was_stored_for() {
    let flow =
        Flow { scope: 1, vip: VIP, backend: [240, 0, 0, 1], vip_port: 5432, backend_port: 6432 };
    assert_eq!(shown_peer(&flow, [240, 0, 0, 1], 6432), Some((VIP, 5432)));
    assert_eq!(shown_peer(&flow, [240, 0, 0, 2], 6432), None);
    assert_eq!(shown_peer(&flow, [240, 0, 0, 1], 5432), None);
    assert_eq!(shown_peer(&Flow::default(), [0; 4], 0), None);
}

proptest! {
    #[test]
    fn round_robin_is_exact(
        backends in 1..50u8, start: u64, flows in 1..200usize, ports: [u16; 2],
    ) {
        // Only a wrap of the cursor, after 2^64 flows, may break the order.
        let start = start % (u64::MAX / 2);
        let mut maps = Simulated::default();
        let list: Vec<_> = (0..backends).map(|i| (i, ports[usize::from(i % 2)])).collect();
        maps.add(VipKey::head(1, VIP), &list, 0);
        maps.cursors.borrow_mut().insert(u32::from(VIP[3]), start);
        for flow in 0..flows {
            let (last, port) = list[((start + flow as u64) % u64::from(backends)) as usize];
            let port = if port == 0 { 5432 } else { port };
            prop_assert_eq!(decide(&maps, &to(1, VIP, 5432, TCP)), redirect(last, port));
        }
    }

    /// Whatever the lookups return, no other VIP's backend and no other VIP's turn is used.
    #[test]
    fn no_vip_ever_gets_anothers_backend(
        ranges in proptest::collection::vec((0..12u32, 0..12u32), 0..12), port: u16,
    ) {
        let mut maps = Simulated::default();
        for scope in 1..=4 {
            maps.add(VipKey::head(scope, VIP), &[(scope as u8, 0), (scope as u8, 0)], 0);
        }
        let stale = ranges.into_iter().map(|(first, count)| Some(Range { first, count }));
        maps.stale = stale.collect::<Vec<_>>().into();
        let verdict = decide(&maps, &to(2, VIP, port, TCP));
        prop_assert!(matches!(verdict, Verdict::Unsettled) || verdict == redirect(2, port));
    }
}
