//! The life of flows, and whose answers are shown as whose.

extern crate std;

use super::*;
use crate::{
    decide::Count,
    layout::{Protocol, Range, VipKey},
};

const VIP: [u8; 4] = [169, 254, 37, 209];
const OTHER: [u8; 4] = [169, 254, 206, 224];
const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Moment {
    // Somewhere in the life of a machine, shortly before the unit wraps.
    Moment::from_nanos(((1 << 32) << Moment::SHIFT) - 60 * SECOND + seconds * SECOND)
}

const SOCKET: Socket = Socket { local_port: 4000, connected: false, peer: [0; 4], peer_port: 0 };

fn connected(last: u8) -> Socket {
    Socket { connected: true, peer: [240, 0, 0, last], peer_port: 53, ..SOCKET }
}

fn to(ip: [u8; 4]) -> Destination {
    Destination { scope: 1, ip, port: 53, protocol: Protocol::Udp, connect: false }
}

/// Where flows stay without a table.
fn target(last: u8) -> Target {
    Target { ip: [240, 0, 0, last], port: 53, slot: 7, flags: Slot::STRICT }
}

/// No table.
struct Nothing;

impl Maps for Nothing {
    fn range(&self, _: &VipKey) -> Option<Range> {
        None
    }

    fn slot(&self, _: u32) -> Option<Slot> {
        None
    }

    fn take_turn(&self, _: u32, _: Count) -> Option<u64> {
        None
    }

    fn next_udp_connect(&self, _: u32) -> Option<u64> {
        None
    }

    fn random(&self) -> u32 {
        0
    }
}

fn note(vip: [u8; 4], last: u8, seconds: u64) -> Note {
    Note::new(&to(vip), &target(last), at(seconds))
}

fn flow(vip: [u8; 4], last: u8, seconds: u64) -> Flow {
    Flow::new(&note(vip, last, seconds), &SOCKET, at(seconds))
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
    let place = datagrams.find(&to(vip), &SOCKET, at(seconds));
    datagrams.flows.get(place).map(|flow| flow.note.backend[3])
}

/// Sends again.
fn go_on(datagrams: &mut Datagrams, vip: [u8; 4], seconds: u64) -> Option<u8> {
    let mut other = *datagrams;
    let note = datagrams.go_on(&Nothing, &to(vip), &SOCKET, at(seconds));
    // The quicker way does the same, where it is one.
    if let Some(first) = other.go_on_first(&Nothing, &to(vip), &SOCKET, at(seconds)) {
        assert_eq!((Some(first), other), (note, *datagrams));
    }
    note.map(|note| note.backend[3])
}

fn answered(datagrams: &mut Datagrams, last: u8, seconds: u64) -> Option<[u8; 4]> {
    datagrams.answered([240, 0, 0, last], 53, &SOCKET, at(seconds)).map(|(vip, _)| vip)
}

#[test]
fn an_unanswered_flow_lives_for_30_seconds() {
    let mut datagrams = sent(&[(VIP, 1)]);
    assert_eq!(find(&datagrams, VIP, 29), Some(1));
    assert_eq!(find(&datagrams, VIP, 31), None);
    // Sending refreshes it.
    assert_eq!(go_on(&mut datagrams, VIP, 20), Some(1));
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
    assert_eq!(datagrams.answered([240, 0, 0, 1], 54, &SOCKET, at(2)), None);
    let another_port = Socket { local_port: 4001, ..SOCKET };
    assert_eq!(datagrams.answered([240, 0, 0, 1], 53, &another_port, at(2)), None);
    assert_eq!(Datagrams::default().answered([0; 4], 0, &SOCKET, at(0)), None);
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
    assert_eq!(go_on(&mut datagrams, VIP, 3), Some(1));
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
    assert_eq!(datagrams.flows.iter().filter(|flow| flow.note.vip == VIP).count(), 1);
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
fn what_goes_on_is_the_first_flow_and_keeps_its_age() {
    let mut datagrams = sent(&[(VIP, 1), (OTHER, 2)]);
    answered(&mut datagrams, 1, 1);
    assert_eq!(go_on(&mut datagrams, VIP, 1), Some(1));
    let [first, second, ..] = datagrams.flows;
    assert_eq!((first.note.vip, second.note.vip), (VIP, OTHER));
    assert_eq!(first.note, Note { slot: first.note.slot | Note::ANSWERED, ..note(VIP, 1, 0) });
    // It is old enough, and answered, and was so before.
    assert_eq!(go_on(&mut datagrams, VIP, 3), Some(1));
    assert_eq!(go_on(&mut datagrams, VIP, 122), Some(1));
    assert_eq!(go_on(&mut datagrams, OTHER, 122), None);
}

#[test]
fn a_flow_ends_with_its_backend() {
    let mut datagrams = Datagrams::default();
    let note = Note::new(&to(VIP), &Target { flags: 0, ..target(1) }, at(0));
    datagrams.keep(&Flow::new(&note, &SOCKET, at(0)), at(0));
    assert_eq!(go_on(&mut datagrams, VIP, 1), None);
    assert_eq!(find(&datagrams, VIP, 1), Some(1));
}

#[test]
fn a_note_is_what_a_socket_is_connected_through_however_long_ago_that_was() {
    let note = note(VIP, 1, 0);
    assert!(note.is_peer_of(&connected(1)));
    assert!(!note.is_peer_of(&connected(2)));
    assert!(!note.is_peer_of(&SOCKET));
    assert!(!Note::default().is_peer_of(&Socket { connected: true, ..Socket::default() }));
    assert!(note.leads_to(&to(VIP)));
    assert!(!note.leads_to(&to(OTHER)));
    assert!(!note.leads_to(&Destination { scope: 2, ..to(VIP) }));
    assert!(!note.leads_to(&Destination { port: 54, ..to(VIP) }));
}

#[test]
fn a_note_gives_back_where_it_led() {
    for flags in [0, Slot::STRICT] {
        let target = Target { flags, ..target(1) };
        let mut note = Note::new(&to(VIP), &target, at(0));
        assert_eq!(note.target(), target);
        note.slot |= Note::ANSWERED;
        assert_eq!(note.target(), target);
        for flags in [0, Slot::STRICT] {
            let target = Target { slot: 8, flags, ..target };
            note.goes_on(&target);
            assert_eq!(note.target(), target);
            assert!(note.slot & Note::ANSWERED != 0);
        }
    }
}

#[test]
fn getpeername_shows_the_vip_only_to_the_flow_it_was_stored_for() {
    let note = Note { vip_port: 5432, ..note(VIP, 1, 0) };
    assert_eq!(shown_peer(&note, [240, 0, 0, 1], 53), Some((VIP, 5432)));
    assert_eq!(shown_peer(&note, [240, 0, 0, 2], 53), None);
    assert_eq!(shown_peer(&note, [240, 0, 0, 1], 5432), None);
    assert_eq!(shown_peer(&Note::default(), [0; 4], 0), None);
}

#[test]
fn a_peer_is_found_again_after_a_connect_that_failed() {
    const NONE: usize = Datagrams::CAPACITY;
    let mut datagrams = sent(&[(VIP, 1), (OTHER, 2)]);
    // What it only sends through is not what it is connected to.
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4000), NONE);
    let of_peer = Flow::of_peer(&note(VIP, 1, 1), &SOCKET, at(1));
    assert!(datagrams.keep(&of_peer, at(1)));
    assert!(datagrams.keep(&flow(OTHER, 2, 2), at(2)));
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4000), 1);
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4001), NONE);
    assert_eq!(datagrams.peer([240, 0, 0, 2], 53, 4000), NONE);
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 0), NONE);
    // Answers are told by it as by any other.
    assert_eq!(answered(&mut datagrams, 1, 3), Some(VIP));
}

#[test]
fn a_peer_that_is_connected_to_directly_since_is_no_vip() {
    let mut datagrams = Datagrams::default();
    assert!(datagrams.keep(&Flow::of_peer(&note(VIP, 1, 1), &SOCKET, at(1)), at(1)));
    let direct = to([240, 0, 0, 1]);
    assert!(datagrams.is_hidden_by(&direct));
    assert!(!datagrams.is_hidden_by(&to([240, 0, 0, 2])));
    datagrams.hide(&direct);
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4000), Datagrams::CAPACITY);
    // Nor when something is sent to the VIP after that.
    assert_eq!(go_on(&mut datagrams, VIP, 2), Some(1));
    assert_eq!(datagrams.peer([240, 0, 0, 1], 53, 4000), Datagrams::CAPACITY);
}
