//! The life of flows, and whose answers are shown as whose.

extern crate std;

use super::*;
use crate::layout::Protocol;

const VIP: [u8; 4] = [169, 254, 37, 209];
const OTHER: [u8; 4] = [169, 254, 206, 224];
const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Moment {
    // Somewhere in the life of a machine, shortly before the unit wraps.
    Moment::from_nanos(((1 << 32) << Moment::SHIFT) - 60 * SECOND + seconds * SECOND)
}

fn socket(seconds: u64) -> Socket {
    Socket { local_port: 4000, connected: false, peer: [0; 4], peer_port: 0, now: at(seconds) }
}

fn connected(seconds: u64, last: u8) -> Socket {
    Socket { connected: true, peer: [240, 0, 0, last], peer_port: 53, ..socket(seconds) }
}

fn to(ip: [u8; 4]) -> Destination {
    Destination { scope: 1, ip, port: 53, protocol: Protocol::Udp, connect: false }
}

fn target(last: u8) -> Target {
    Target { ip: [240, 0, 0, last], port: 53, slot: 7, flags: 0 }
}

fn flow(vip: [u8; 4], last: u8, seconds: u64) -> Flow {
    Flow::new(&to(vip), &target(last), &socket(seconds))
}

/// A socket that has sent to these VIPs and backends, one a second.
fn sent(flows: &[([u8; 4], u8)]) -> Datagrams {
    let mut datagrams = Datagrams::default();
    for (second, (vip, last)) in (0..).zip(flows) {
        assert!(datagrams.keep(&flow(*vip, *last, second), at(second)));
    }
    datagrams
}

fn find(datagrams: &Datagrams, vip: [u8; 4], seconds: u64) -> Option<u8> {
    known(&to(vip), &socket(seconds), None, Some(datagrams)).map(|flow| flow.backend[3])
}

fn answered(datagrams: &mut Datagrams, last: u8, seconds: u64) -> Option<[u8; 4]> {
    datagrams.answered([240, 0, 0, last], 53, &socket(seconds)).map(|(vip, _)| vip)
}

#[test]
fn an_unanswered_flow_lives_for_30_seconds() {
    let mut datagrams = sent(&[(VIP, 1)]);
    assert_eq!(find(&datagrams, VIP, 29), Some(1));
    assert_eq!(find(&datagrams, VIP, 31), None);
    // Sending refreshes it.
    let mut again = known(&to(VIP), &socket(20), None, Some(&datagrams)).unwrap();
    again.sent(&target(1), &socket(20));
    datagrams.keep(&again, at(20));
    assert_eq!(find(&datagrams, VIP, 49), Some(1));
    assert_eq!(find(&datagrams, VIP, 51), None);
}

#[test]
fn an_answered_flow_lives_for_120_seconds_once_it_is_a_stream() {
    // The first answer still finds an unanswered flow; what comes within two seconds is no stream.
    let mut datagrams = sent(&[(VIP, 1)]);
    assert_eq!(answered(&mut datagrams, 1, 1), Some(VIP));
    assert_eq!(answered(&mut datagrams, 1, 1), Some(VIP));
    assert_eq!(find(&datagrams, VIP, 30), Some(1));
    assert_eq!(find(&datagrams, VIP, 32), None);

    let mut datagrams = sent(&[(VIP, 1)]);
    answered(&mut datagrams, 1, 1);
    assert_eq!(answered(&mut datagrams, 1, 3), Some(VIP));
    assert_eq!(find(&datagrams, VIP, 122), Some(1));
    assert_eq!(find(&datagrams, VIP, 124), None);
    // What comes later is nobody's answer any more.
    assert_eq!(answered(&mut datagrams, 1, 124), None);
}

#[test]
fn only_answers_are_shown_as_a_vips() {
    let mut datagrams = sent(&[(VIP, 1), (OTHER, 2)]);
    assert_eq!(answered(&mut datagrams, 1, 2), Some(VIP));
    assert_eq!(answered(&mut datagrams, 2, 2), Some(OTHER));
    assert_eq!(answered(&mut datagrams, 3, 2), None);
    assert_eq!(datagrams.answered([240, 0, 0, 1], 54, &socket(2)), None);
    let another_port = Socket { local_port: 4001, ..socket(2) };
    assert_eq!(datagrams.answered([240, 0, 0, 1], 53, &another_port), None);
    assert_eq!(Datagrams::default().answered([0; 4], 0, &socket(0)), None);
}

#[test]
fn a_backend_that_is_spoken_to_directly_answers_as_itself() {
    let mut datagrams = sent(&[(VIP, 1)]);
    let direct = |scope| Destination { scope, ..to([240, 0, 0, 1]) };
    // What an outer app sees of it is not a word of the application's.
    datagrams.hide(&direct(2));
    assert_eq!(answered(&mut datagrams, 1, 2), Some(VIP));
    datagrams.hide(&direct(1));
    assert_eq!(answered(&mut datagrams, 1, 2), None);
    // Until the VIP is spoken to again, which is the same flow.
    let mut again = known(&to(VIP), &socket(3), None, Some(&datagrams)).unwrap();
    again.sent(&target(1), &socket(3));
    datagrams.keep(&again, at(3));
    assert_eq!(answered(&mut datagrams, 1, 4), Some(VIP));
}

#[test]
fn of_two_vips_with_one_backend_the_last_one_spoken_to_answers() {
    let mut datagrams = sent(&[(VIP, 1), (OTHER, 1)]);
    assert_eq!(answered(&mut datagrams, 1, 2), Some(OTHER));
    datagrams.keep(&flow(VIP, 1, 3), at(3));
    assert_eq!(answered(&mut datagrams, 1, 4), Some(VIP));
}

#[test]
fn a_flow_that_moves_leaves_nothing_behind() {
    let mut datagrams = sent(&[(VIP, 1)]);
    assert!(datagrams.keep(&flow(VIP, 2, 1), at(1)));
    assert_eq!(find(&datagrams, VIP, 2), Some(2));
    assert_eq!(answered(&mut datagrams, 1, 2), None);
    assert_eq!(datagrams.flows.iter().filter(|flow| flow.vip == VIP).count(), 1);
}

#[test]
fn a_full_socket_drops_the_flow_that_was_longest_unused() {
    let vip = |i: usize| [169, 254, 1, i as u8];
    let all: std::vec::Vec<_> = (0..Datagrams::CAPACITY).map(|i| (vip(i), i as u8)).collect();
    let mut datagrams = sent(&all);
    // The oldest is used again, so the second oldest goes.
    assert!(datagrams.keep(&flow(vip(0), 0, 16), at(16)));
    assert!(!datagrams.keep(&flow(VIP, 99, 17), at(17)));
    assert_eq!(find(&datagrams, vip(0), 18), Some(0));
    assert_eq!(find(&datagrams, vip(1), 18), None);
    assert_eq!(find(&datagrams, vip(2), 18), Some(2));
    assert_eq!(find(&datagrams, VIP, 18), Some(99));
    // Where one has ended, none that lives has to go.
    assert!(datagrams.keep(&flow(OTHER, 98, 40), at(40)));
    assert_eq!(find(&datagrams, vip(0), 41), Some(0));
    assert_eq!(find(&datagrams, VIP, 41), Some(99));
}

#[test]
fn a_socket_that_is_connected_goes_on_where_it_is_connected_to() {
    let mut note = flow(VIP, 1, 0);
    // connect ran before the kernel gave the socket a port.
    note.local_port = 0;
    let known = |ip, socket: Socket| known(&to(ip), &socket, Some(&note), None).is_some();
    // However long ago that was.
    assert!(known(VIP, connected(1000, 1)));
    assert!(!known(OTHER, connected(1, 1)));
    assert!(!known(VIP, connected(1, 2)));
    // connect(AF_UNSPEC) took the port away.
    assert!(!known(VIP, socket(1)));
}

#[test]
fn getpeername_shows_the_vip_only_to_the_flow_it_was_stored_for() {
    let note = Flow { vip_port: 5432, ..flow(VIP, 1, 0) };
    assert_eq!(shown_peer(&note, [240, 0, 0, 1], 53), Some((VIP, 5432)));
    assert_eq!(shown_peer(&note, [240, 0, 0, 2], 53), None);
    assert_eq!(shown_peer(&note, [240, 0, 0, 1], 5432), None);
    assert_eq!(shown_peer(&Flow::default(), [0; 4], 0), None);
}

#[test]
fn a_peer_is_found_again_after_a_connect_that_failed() {
    let datagrams = sent(&[(VIP, 1)]);
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4000), Some((VIP, 53)));
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4001), None);
    assert_eq!(datagrams.peer([240, 0, 0, 2], 53, 4000), None);
}
