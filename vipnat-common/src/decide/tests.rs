//! The decision over simulated maps: its table, its round robin, and maps that change underneath.

extern crate std;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    vec,
    vec::Vec,
};

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
    cursors: RefCell<HashMap<(u32, Count), u64>>,
    stale: RefCell<Vec<Option<Range>>>,
    chance: Cell<u32>,
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

    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let turn = cursors.entry((cursor, count)).or_default();
        *turn = turn.wrapping_add(1);
        Some(turn.wrapping_sub(1))
    }

    fn next_udp_connect(&self, cursor: u32) -> Option<u64> {
        let cursors = self.cursors.borrow();
        Some(cursors.get(&(cursor, Count::UdpConnects)).copied().unwrap_or_default())
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

fn to(scope: u32, ip: [u8; 4], port: u16, protocol: Protocol) -> Destination {
    Destination { scope, ip, port, protocol, connect: true }
}

/// What an application would notice of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Pass,
    Unreachable,
    Unsettled,
    Redirect(u8, u16),
}

fn seen(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Pass => Seen::Pass,
        Verdict::Unreachable => Seen::Unreachable,
        Verdict::Unsettled => Seen::Unsettled,
        Verdict::Redirect(Target { ip: [240, 0, 0, last], port, .. }) => Seen::Redirect(last, port),
        Verdict::Redirect(target) => panic!("{target:?} is no backend"),
    }
}

fn decided(maps: &Simulated, to: Destination) -> Seen {
    seen(decide(maps, &to))
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
        (to(1, VIP, 5432, TCP), Seen::Redirect(1, 5432)),
        (to(1, VIP, 0, UDP), Seen::Redirect(1, 0)),
        (to(1, OTHER, 6379, TCP), Seen::Redirect(2, 6380)),
        // Any protocol with a hook.
        (to(1, VIP, 7, Protocol::Reserved), Seen::Redirect(1, 7)),
        // The same VIP of another app is another VIP.
        (to(2, VIP, 5432, TCP), Seen::Redirect(3, 5432)),
        (to(2, OTHER, 5432, TCP), Seen::Pass),
        (to(4, VIP, 5432, TCP), Seen::Pass),
        (to(1, [240, 0, 0, 1], 5432, TCP), Seen::Pass),
        (to(3, VIP, 5432, TCP), Seen::Unreachable),
    ] {
        assert_eq!(decided(&maps, destination), verdict, "{destination:?}");
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
            let verdict = decided(&maps, to(1, VIP, port, protocol));
            let expected = expected.map_or(Seen::Pass, |i| Seen::Redirect(i, port));
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
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432));
    // No turn of the other VIP was taken.
    assert_eq!(maps.turns(), 1);

    maps.stale = vec![Some(other); LOOKS as usize].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Unsettled);
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
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432));
}

/// Replacing a hash element is not atomic for readers: for a moment they may find neither.
#[test]
fn a_lookup_that_misses_an_entry_being_replaced_is_repeated() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], 0);
    for misses in 1..LOOKS {
        maps.stale = vec![None; misses as usize].into();
        assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432), "{misses}");
    }
    // The same for the limited entry of a limited VIP, behind a head that stands.
    let head = maps.add(VipKey::head(1, OTHER), &[(0, 0)], Slot::LIMITED);
    maps.add(VipKey::new(1, OTHER, 80, TCP), &[(2, 0)], 0);
    maps.stale = vec![None, None, None, Some(head)].into();
    assert_eq!(decided(&maps, to(1, OTHER, 80, TCP)), Seen::Redirect(2, 80));
}

/// A VIP that was there in one look is not taken for an address that is no VIP, which would send
/// the connection to the VIP itself.
#[test]
fn misses_beside_a_change_are_no_miss() {
    let mut maps = Simulated::default();
    let other = maps.add(VipKey::head(2, VIP), &[(2, 0)], 0);
    maps.stale = vec![None, None, None, None, Some(other)].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Unsettled);
    maps.stale = vec![Some(other), None, None, None, None].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Unsettled);
}

#[test]
fn addresses_outside_the_range_of_vips_cost_no_lookup() {
    let maps = Simulated::default();
    // Would be served, if anybody asked.
    maps.stale.borrow_mut().push(Some(Range { first: 0, count: 1 }));
    assert_eq!(decided(&maps, to(1, [240, 0, 0, 1], 5432, TCP)), Seen::Pass);
    assert_eq!(maps.stale.borrow().len(), 1);
}

/// `getaddrinfo` connects UDP sockets to port 0, only to see which address they would use.
#[test]
fn a_udp_connect_to_port_0_takes_no_turn() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 6432), (2, 6432)], 0);
    for _ in 0..3 {
        // The port stays 0: with another, getpeername would find a peer.
        assert_eq!(decided(&maps, to(1, VIP, 0, UDP)), Seen::Redirect(1, 0));
    }
    assert_eq!(maps.turns(), 0);
    assert_eq!(decided(&maps, to(1, VIP, 0, TCP)), Seen::Redirect(1, 6432));
}

/// With a port, `getaddrinfo` connects them to that. With two backends every TCP connection of curl,
/// psql and Python then came to the same one, since lookup and connection took a turn each.
#[test]
fn udp_connects_do_not_shift_the_turns_of_what_sends() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0), (2, 0)], 0);
    let datagram = Destination { connect: false, ..to(1, VIP, 53, UDP) };
    let turns = [
        (to(1, VIP, 53, UDP), 1),
        (to(1, VIP, 53, TCP), 1),
        (to(1, VIP, 53, UDP), 2),
        (datagram, 2),
        (to(1, VIP, 53, UDP), 1),
        (to(1, VIP, 53, TCP), 1),
        (datagram, 2),
    ];
    for (i, (destination, last)) in turns.into_iter().enumerate() {
        assert_eq!(decided(&maps, destination), Seen::Redirect(last, 53), "{i}");
    }
}

#[test]
fn chance_gives_each_slot_its_share_and_counts_connections() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0), (2, 0), (1, 0)], Slot::RANDOM);
    let mut counts = [0; 3];
    let mut same = 0;
    let mut last = 0;
    for _ in 0..3000 {
        let Seen::Redirect(backend, _) = decided(&maps, to(1, VIP, 80, TCP)) else {
            panic!("not redirected");
        };
        counts[usize::from(backend)] += 1;
        same += usize::from(backend == last);
        last = backend;
    }
    // Expected 2000 and 1000, with a standard deviation of 26; and 5/9 of them like the one before.
    assert!((1870..2130).contains(&counts[1]), "{counts:?}");
    assert!((1500..1830).contains(&same), "{same}");
    assert_eq!(maps.turns(), 3000);
}

fn target(maps: &Simulated, to: Destination) -> Target {
    match decide(maps, &to) {
        Verdict::Redirect(target) => target,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flow_keeps_its_backend_while_the_table_has_it() {
    let mut maps = Simulated::default();
    let key = VipKey::head(1, VIP);
    let old = maps.add(key, &[(1, 0), (2, 0), (3, 0)], 0);
    let to = to(1, VIP, 53, UDP);
    target(&maps, to);
    let had = target(&maps, to);
    assert_eq!(had.ip, [240, 0, 0, 2]);
    let turns = maps.turns();
    assert_eq!(follow(&maps, &to, &had).map(|t| (t.ip, t.slot)), Some(([240, 0, 0, 2], 1)));

    // Another list that has it, at another place. The old slots are somebody else's.
    maps.add(key, &[(5, 0), (6, 0), (2, 0)], 0);
    for index in old.first..old.first + old.count {
        maps.slots[index as usize].owner.scope = 9;
    }
    assert_eq!(follow(&maps, &to, &had).map(|t| (t.ip, t.slot)), Some(([240, 0, 0, 2], 5)));
    // The same address on another port is another backend.
    maps.add(key, &[(2, 54)], 0);
    assert_eq!(follow(&maps, &to, &had), None);
    maps.add(key, &[(1, 0)], 0);
    assert_eq!(follow(&maps, &to, &had), None);
    maps.add(key, &[(0, 0)], Slot::UNREACHABLE);
    assert_eq!(follow(&maps, &to, &had), None);
    maps.vips.clear();
    maps.slots.clear();
    assert_eq!(follow(&maps, &to, &had), None);
    assert_eq!(maps.turns(), turns);
}

/// `getaddrinfo` asks for port 0, and a TCP connect to it is possible. Both took the head entry for the
/// limited one, and found it changed at each look.
#[test]
fn port_0_of_a_limited_vip_is_not_translated() {
    for limit in [(53, ANY_PROTOCOL), (53, UDP), (ANY_PORT, UDP)] {
        let mut maps = Simulated::default();
        maps.add(VipKey::head(1, VIP), &[(99, 0)], Slot::LIMITED);
        maps.add(VipKey::new(1, VIP, limit.0, limit.1), &[(1, 0)], 0);
        assert_eq!(decided(&maps, to(1, VIP, 0, TCP)), Seen::Pass, "{limit:?}");
        let all_ports = limit.0 == ANY_PORT;
        let udp = if all_ports { Seen::Redirect(1, 0) } else { Seen::Pass };
        assert_eq!(decided(&maps, to(1, VIP, 0, UDP)), udp, "{limit:?}");
        assert_eq!(maps.turns(), 0);
    }
}

/// The index that a socket kept may be the same VIP's again, limited to something else.
#[test]
fn a_flow_to_what_is_no_longer_translated_ends() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], 0);
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.slots[0].owner = VipKey::new(1, VIP, 80, TCP);
    maps.vips.clear();
    assert_eq!(follow(&maps, &to, &had), None);
    maps.slots[0].owner = VipKey::new(1, VIP, 53, UDP);
    assert!(follow(&maps, &to, &had).is_some());
}

#[test]
fn a_service_that_becomes_strict_pins_the_flows_it_has() {
    let mut maps = Simulated::default();
    let key = VipKey::head(1, VIP);
    maps.add(key, &[(1, 0)], 0);
    let to = to(1, VIP, 53, UDP);
    let mut had = target(&maps, to);
    maps.slots[0].flags = Slot::STRICT;
    assert_eq!(follow(&maps, &to, &had).unwrap().flags, Slot::STRICT);
    had.flags |= Slot::STRICT;
    maps.slots[0].flags = 0;
    assert_eq!(follow(&maps, &to, &had).unwrap().flags, 0);
}

#[test]
fn a_flow_of_a_limited_vip_is_followed_too() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(0, 0)], Slot::LIMITED);
    let key = VipKey::new(1, VIP, 53, UDP);
    maps.add(key, &[(1, 5353), (2, 5353)], 0);
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.slots[1].owner.scope = 9;
    maps.add(key, &[(3, 5353), (1, 5353)], 0);
    assert_eq!(follow(&maps, &to, &had).map(|t| (t.ip, t.port)), Some(([240, 0, 0, 1], 5353)));
}

#[test]
fn a_strict_flow_keeps_its_backend_whatever_the_table_says() {
    let mut maps = Simulated::default();
    maps.add(VipKey::head(1, VIP), &[(1, 0)], Slot::STRICT);
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.vips.clear();
    maps.slots.clear();
    assert_eq!(follow(&maps, &to, &had).map(|target| target.ip), Some([240, 0, 0, 1]));
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
        maps.cursors.borrow_mut().insert((u32::from(VIP[3]), Count::Sent), start);
        for flow in 0..flows {
            let (last, port) = list[((start + flow as u64) % u64::from(backends)) as usize];
            let port = if port == 0 { 5432 } else { port };
            prop_assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(last, port));
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
        let verdict = decided(&maps, to(2, VIP, port, TCP));
        prop_assert!(verdict == Seen::Unsettled || verdict == Seen::Redirect(2, port));
    }
}
