//! The decision over simulated maps: its table, its round robin, and maps that change during a decision.

extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    abi::{ANY_PORT, AppId, Protocol, Range, SlotFlags, VipKey},
    maps::Count,
    simulated::{OTHER, Seen, Simulated, TCP, UDP, VIP, decided, head, to},
};

#[test]
fn verdicts() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 0)], SlotFlags::empty());
    maps.add(head(1, OTHER), &[(2, 6380)], SlotFlags::empty());
    maps.add(head(2, VIP), &[(3, 0)], SlotFlags::empty());
    maps.add(head(3, VIP), &[(0, 0)], SlotFlags::UNREACHABLE);
    for (destination, verdict) in [
        // The port is kept unless the backend names one.
        (to(1, VIP, 5432, TCP), Seen::Redirect(1, 5432)),
        (to(1, VIP, 0, UDP), Seen::Redirect(1, 0)),
        (to(1, OTHER, 6379, TCP), Seen::Redirect(2, 6380)),
        // Any protocol that has a hook.
        (to(1, VIP, 7, Protocol::Other), Seen::Redirect(1, 7)),
        // The same address in another app is another VIP.
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
    // Each set of entries, and the results for ports 53 and 54 over UDP and TCP.
    let exact = (53, UDP);
    let port = (53, Protocol::Any);
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
        maps.add(head(1, VIP), &[(99, 0)], SlotFlags::LIMITED);
        for (i, (port, protocol)) in entries.iter().enumerate() {
            maps.add(
                VipKey::new(AppId(1), VIP, *port, *protocol),
                &[(i as u8, 0)],
                SlotFlags::empty(),
            );
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
    maps.add(head(1, VIP), &[(1, 0)], SlotFlags::empty());
    let other = maps.add(head(2, VIP), &[(2, 0)], SlotFlags::empty());
    let empty = maps.add(head(3, VIP), &[(0, 0)], SlotFlags::UNREACHABLE);
    let beyond = Range { first: 1000, count: 1 };
    maps.stale = vec![Some(beyond), Some(empty), Some(other)].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432));
    // The decision took no turn of the other VIP.
    assert_eq!(maps.turns(), 1);

    maps.stale = vec![Some(other); MAX_LOOKUPS as usize].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Retry);
    assert_eq!(maps.turns(), 1);
}

#[test]
fn a_limit_lifted_during_the_lookup_is_no_miss() {
    let mut maps = Simulated::default();
    let key = head(1, VIP);
    let limited = maps.add(key, &[(99, 0)], SlotFlags::LIMITED);
    maps.add(key, &[(1, 0)], SlotFlags::empty());
    // The first lookup finds the head as it was. The limited entries are gone before the next lookup.
    maps.stale = vec![Some(limited)].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432));
}

/// Readers do not see the replacement of a hash element as one write: for a moment they may find neither.
#[test]
fn a_lookup_that_misses_an_entry_being_replaced_is_repeated() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 0)], SlotFlags::empty());
    for misses in 1..MAX_LOOKUPS {
        maps.stale = vec![None; misses as usize].into();
        assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(1, 5432), "{misses}");
    }
    // The same for the limited entry of a limited VIP whose head stays.
    let head = maps.add(head(1, OTHER), &[(0, 0)], SlotFlags::LIMITED);
    maps.add(VipKey::new(AppId(1), OTHER, 80, TCP), &[(2, 0)], SlotFlags::empty());
    maps.stale = vec![None, None, None, Some(head)].into();
    assert_eq!(decided(&maps, to(1, OTHER, 80, TCP)), Seen::Redirect(2, 80));
}

/// A VIP that one lookup found does not count as "no VIP". The connection would go to the VIP itself.
#[test]
fn misses_beside_a_change_are_no_miss() {
    let mut maps = Simulated::default();
    let other = maps.add(head(2, VIP), &[(2, 0)], SlotFlags::empty());
    maps.stale = vec![None, None, None, None, Some(other)].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Retry);
    maps.stale = vec![Some(other), None, None, None, None].into();
    assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Retry);
}

#[test]
fn addresses_outside_the_range_of_vips_cost_no_lookup() {
    let maps = Simulated::default();
    // A lookup would find this one.
    maps.stale.borrow_mut().push(Some(Range { first: 0, count: 1 }));
    assert_eq!(decided(&maps, to(1, [240, 0, 0, 1], 5432, TCP)), Seen::Pass);
    assert_eq!(maps.stale.borrow().len(), 1);
}

/// `getaddrinfo` connects UDP sockets to port 0, only to see which local address they would use.
#[test]
fn a_udp_connect_to_port_0_takes_no_turn() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 6432), (2, 6432)], SlotFlags::empty());
    for _ in 0..3 {
        // The port stays 0: with another port, getpeername would find a peer.
        assert_eq!(decided(&maps, to(1, VIP, 0, UDP)), Seen::Redirect(1, 0));
    }
    assert_eq!(maps.turns(), 0);
    assert_eq!(decided(&maps, to(1, VIP, 0, TCP)), Seen::Redirect(1, 6432));
}

/// If its caller names a port, `getaddrinfo` connects UDP sockets to that port. With one shared count, the
/// name lookup and the connection took a turn each. With two backends, all TCP connections of curl, psql
/// and Python then went to the same one.
#[test]
fn udp_connects_do_not_shift_the_turns_of_what_sends() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 0), (2, 0)], SlotFlags::empty());
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
    maps.add(head(1, VIP), &[(1, 0), (2, 0), (1, 0)], SlotFlags::RANDOM);
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
    // Expected: 2000 and 1000, with a standard deviation of 26. 5/9 of the choices equal the one before.
    assert!((1870..2130).contains(&counts[1]), "{counts:?}");
    assert!((1500..1830).contains(&same), "{same}");
    assert_eq!(maps.turns(), 3000);
}

/// `getaddrinfo` asks for port 0, and a TCP connect to it is possible. Once, both took the head entry for
/// the limited one, and saw a change at each lookup.
#[test]
fn port_0_of_a_limited_vip_is_not_translated() {
    for limit in [(53, Protocol::Any), (53, UDP), (ANY_PORT, UDP)] {
        let mut maps = Simulated::default();
        maps.add(head(1, VIP), &[(99, 0)], SlotFlags::LIMITED);
        maps.add(VipKey::new(AppId(1), VIP, limit.0, limit.1), &[(1, 0)], SlotFlags::empty());
        assert_eq!(decided(&maps, to(1, VIP, 0, TCP)), Seen::Pass, "{limit:?}");
        let all_ports = limit.0 == ANY_PORT;
        let udp = if all_ports { Seen::Redirect(1, 0) } else { Seen::Pass };
        assert_eq!(decided(&maps, to(1, VIP, 0, UDP)), udp, "{limit:?}");
        assert_eq!(maps.turns(), 0);
    }
}

proptest! {
    #[test]
    fn round_robin_is_exact(
        backends in 1..50u8, start: u64, flows in 1..200usize, ports: [u16; 2],
    ) {
        // Only a wrap of the cursor, after 2^64 turns, may break the order.
        let start = start % (u64::MAX / 2);
        let mut maps = Simulated::default();
        let list: Vec<_> = (0..backends).map(|i| (i, ports[usize::from(i % 2)])).collect();
        maps.add(head(1, VIP), &list, SlotFlags::empty());
        maps.cursors.borrow_mut().insert((u32::from(VIP[3]), Count::Turns), start);
        for flow in 0..flows {
            let (last, port) = list[((start + flow as u64) % u64::from(backends)) as usize];
            let port = if port == 0 { 5432 } else { port };
            prop_assert_eq!(decided(&maps, to(1, VIP, 5432, TCP)), Seen::Redirect(last, port));
        }
    }

    /// For any results of the lookups, the decision uses no other VIP's backend and no other VIP's turn.
    #[test]
    fn no_vip_ever_gets_anothers_backend(
        ranges in proptest::collection::vec((0..12u32, 0..12u32), 0..12), port: u16,
    ) {
        let mut maps = Simulated::default();
        for app in 1..=4 {
            maps.add(head(app, VIP), &[(app as u8, 0), (app as u8, 0)], SlotFlags::empty());
        }
        let stale = ranges.into_iter().map(|(first, count)| Some(Range { first, count }));
        maps.stale = stale.collect::<Vec<_>>().into();
        let verdict = decided(&maps, to(2, VIP, port, TCP));
        prop_assert!(verdict == Seen::Retry || verdict == Seen::Redirect(2, port));
    }
}
