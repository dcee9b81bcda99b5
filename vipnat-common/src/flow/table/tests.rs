//! The life of flows, and the VIPs that their answers show.

extern crate std;

use super::*;
use crate::flow::simulated::{Nothing, OTHER, SOCKET, VIP, at, flow, record, target, to};
use crate::{
    abi::{AppId, SlotFlags},
    verdict::Target,
};

/// A socket that has sent to these VIPs and backends, one each second.
fn sent(to: &[([u8; 4], u8)]) -> UdpFlows {
    let mut flows = UdpFlows::default();
    for (second, (vip, last)) in (0..).zip(to) {
        assert!(flows.store(&flow(*vip, *last, second), at(second)));
    }
    flows
}

fn find(flows: &UdpFlows, vip: [u8; 4], seconds: u64) -> Option<u8> {
    let place = flows.position(&to(vip), &SOCKET, at(seconds));
    flows.flows.get(place).map(|flow| flow.record.backend[3])
}

/// Sends once more.
fn go_on(flows: &mut UdpFlows, vip: [u8; 4], seconds: u64) -> Option<u8> {
    let mut other = *flows;
    let record = flows.continue_flow(&Nothing, &to(vip), &SOCKET, at(seconds));
    // The quick way does the same, where it applies.
    if let Some(first) = other.continue_first_flow(&Nothing, &to(vip), &SOCKET, at(seconds)) {
        assert_eq!((Some(first), other), (record, *flows));
    }
    record.map(|record| record.backend[3])
}

fn answered(flows: &mut UdpFlows, last: u8, seconds: u64) -> Option<[u8; 4]> {
    flows.reply_source([240, 0, 0, last], 53, &SOCKET, at(seconds)).map(|(vip, _)| vip)
}

#[test]
fn an_unanswered_flow_lives_for_30_seconds() {
    let mut flows = sent(&[(VIP, 1)]);
    assert_eq!(find(&flows, VIP, 29), Some(1));
    assert_eq!(find(&flows, VIP, 31), None);
    // Each datagram that the socket sends refreshes the flow.
    assert_eq!(go_on(&mut flows, VIP, 20), Some(1));
    assert_eq!(find(&flows, VIP, 49), Some(1));
    assert_eq!(find(&flows, VIP, 51), None);
}

#[test]
fn an_answered_flow_lives_for_120_seconds_once_it_is_a_stream() {
    // The first answer still finds an unanswered flow. Traffic within the first two seconds makes no stream.
    let mut flows = sent(&[(VIP, 1)]);
    assert_eq!(answered(&mut flows, 1, 1), Some(VIP));
    assert_eq!(answered(&mut flows, 1, 1), Some(VIP));
    assert_eq!(find(&flows, VIP, 30), Some(1));
    assert_eq!(find(&flows, VIP, 32), None);

    let mut flows = sent(&[(VIP, 1)]);
    answered(&mut flows, 1, 1);
    assert_eq!(answered(&mut flows, 1, 3), Some(VIP));
    assert_eq!(find(&flows, VIP, 122), Some(1));
    assert_eq!(find(&flows, VIP, 124), None);
    // A later datagram finds no flow.
    assert_eq!(answered(&mut flows, 1, 124), None);
}

#[test]
fn only_answers_are_shown_as_a_vips() {
    let mut flows = sent(&[(VIP, 1), (OTHER, 2)]);
    assert_eq!(answered(&mut flows, 1, 2), Some(VIP));
    assert_eq!(answered(&mut flows, 2, 2), Some(OTHER));
    assert_eq!(answered(&mut flows, 3, 2), None);
    assert_eq!(flows.reply_source([240, 0, 0, 1], 54, &SOCKET, at(2)), None);
    let another_port = Socket { local_port: 4001, ..SOCKET };
    assert_eq!(flows.reply_source([240, 0, 0, 1], 53, &another_port, at(2)), None);
    assert_eq!(UdpFlows::default().reply_source([0; 4], 0, &SOCKET, at(0)), None);
}

#[test]
fn a_backend_that_is_spoken_to_directly_answers_as_itself() {
    let mut flows = sent(&[(VIP, 1)]);
    let direct = |app| Destination { app: AppId(app), ..to([240, 0, 0, 1]) };
    // An outer app sees a datagram to the backend too, but the application did not address it to the backend.
    flows.suppress_reply_translation(&direct(2));
    assert_eq!(answered(&mut flows, 1, 2), Some(VIP));
    flows.suppress_reply_translation(&direct(1));
    assert_eq!(answered(&mut flows, 1, 2), None);
    // This holds until the socket sends to the VIP again, which is the same flow.
    assert_eq!(go_on(&mut flows, VIP, 3), Some(1));
    assert_eq!(answered(&mut flows, 1, 4), Some(VIP));
}

#[test]
fn of_two_vips_with_one_backend_the_last_one_spoken_to_answers() {
    let mut flows = sent(&[(VIP, 1), (OTHER, 1)]);
    assert_eq!(answered(&mut flows, 1, 2), Some(OTHER));
    flows.store(&flow(VIP, 1, 3), at(3));
    assert_eq!(answered(&mut flows, 1, 4), Some(VIP));
}

#[test]
fn a_flow_that_moves_leaves_nothing_behind() {
    let mut flows = sent(&[(VIP, 1)]);
    assert!(flows.store(&flow(VIP, 2, 1), at(1)));
    assert_eq!(find(&flows, VIP, 2), Some(2));
    assert_eq!(answered(&mut flows, 1, 2), None);
    assert_eq!(flows.flows.iter().filter(|flow| flow.record.vip == VIP).count(), 1);
}

#[test]
fn a_full_socket_drops_the_flow_that_was_longest_unused() {
    let vip = |i: usize| [169, 254, 1, i as u8];
    let all: std::vec::Vec<_> = (0..UdpFlows::CAPACITY).map(|i| (vip(i), i as u8)).collect();
    let mut flows = sent(&all);
    // The oldest flow is used again, so the second oldest makes room.
    assert!(flows.store(&flow(vip(0), 0, 16), at(16)));
    assert!(!flows.store(&flow(VIP, 99, 17), at(17)));
    assert_eq!(find(&flows, vip(0), 18), Some(0));
    assert_eq!(find(&flows, vip(1), 18), None);
    assert_eq!(find(&flows, vip(2), 18), Some(2));
    assert_eq!(find(&flows, VIP, 18), Some(99));
    // If a flow has ended, no living flow makes room.
    assert!(flows.store(&flow(OTHER, 98, 40), at(40)));
    assert_eq!(find(&flows, vip(0), 41), Some(0));
    assert_eq!(find(&flows, VIP, 41), Some(99));
}

#[test]
fn what_goes_on_is_the_first_flow_and_keeps_its_age() {
    let mut flows = sent(&[(VIP, 1), (OTHER, 2)]);
    answered(&mut flows, 1, 1);
    assert_eq!(go_on(&mut flows, VIP, 1), Some(1));
    let [first, second, ..] = flows.flows;
    assert_eq!((first.record.vip, second.record.vip), (VIP, OTHER));
    assert_eq!(
        first.record,
        ConnRecord {
            slot_and_flags: first.record.slot_and_flags | ConnRecord::ANSWERED,
            ..record(VIP, 1, 0)
        }
    );
    // The flow is old enough, and was answered before.
    assert_eq!(go_on(&mut flows, VIP, 3), Some(1));
    assert_eq!(go_on(&mut flows, VIP, 122), Some(1));
    assert_eq!(go_on(&mut flows, OTHER, 122), None);
}

#[test]
fn a_flow_ends_with_its_backend() {
    let mut flows = UdpFlows::default();
    let record =
        ConnRecord::new(&to(VIP), &Target { flags: SlotFlags::empty(), ..target(1) }, at(0));
    flows.store(&UdpFlow::new(&record, &SOCKET, at(0)), at(0));
    assert_eq!(go_on(&mut flows, VIP, 1), None);
    assert_eq!(find(&flows, VIP, 1), Some(1));
}

#[test]
fn a_peer_is_found_again_after_a_connect_that_failed() {
    const NONE: usize = UdpFlows::CAPACITY;
    let mut flows = sent(&[(VIP, 1), (OTHER, 2)]);
    // A flow without the flag is not the one through which the socket is connected.
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 4000), NONE);
    let of_peer = UdpFlow::of_peer(&record(VIP, 1, 1), &SOCKET, at(1));
    assert!(flows.store(&of_peer, at(1)));
    assert!(flows.store(&flow(OTHER, 2, 2), at(2)));
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 4000), 1);
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 4001), NONE);
    assert_eq!(flows.position_of_peer([240, 0, 0, 2], 53, 4000), NONE);
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 0), NONE);
    // Its answers show the VIP, like those of any other flow.
    assert_eq!(answered(&mut flows, 1, 3), Some(VIP));
}

#[test]
fn a_peer_that_is_connected_to_directly_since_is_no_vip() {
    let mut flows = UdpFlows::default();
    assert!(flows.store(&UdpFlow::of_peer(&record(VIP, 1, 1), &SOCKET, at(1)), at(1)));
    let direct = to([240, 0, 0, 1]);
    assert!(flows.has_backend(&direct));
    assert!(!flows.has_backend(&to([240, 0, 0, 2])));
    flows.suppress_reply_translation(&direct);
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 4000), UdpFlows::CAPACITY);
    // Nor after the socket sends to the VIP.
    assert_eq!(go_on(&mut flows, VIP, 2), Some(1));
    assert_eq!(flows.position_of_peer([240, 0, 0, 1], 53, 4000), UdpFlows::CAPACITY);
}
