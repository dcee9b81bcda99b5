//! The destination and the peer to which a record belongs.

use super::*;
use crate::flow::simulated::{OTHER, SOCKET, VIP, at, connected, record, target, to};

#[test]
fn a_record_is_of_the_peer_however_old_it_is() {
    let record = record(VIP, 1, 0);
    assert!(record.is_peer_of(&connected(1)));
    assert!(!record.is_peer_of(&connected(2)));
    assert!(!record.is_peer_of(&SOCKET));
    assert!(!ConnRecord::default().is_peer_of(&Socket { connected: true, ..Socket::default() }));
    assert!(record.is_to(&to(VIP)));
    assert!(!record.is_to(&to(OTHER)));
    assert!(!record.is_to(&Destination { app: AppId(2), ..to(VIP) }));
    assert!(!record.is_to(&Destination { port: 54, ..to(VIP) }));
}

#[test]
fn a_record_gives_back_its_target() {
    for flags in [SlotFlags::empty(), SlotFlags::STRICT] {
        let target = Target { flags, ..target(1) };
        let mut record = ConnRecord::new(&to(VIP), &target, at(0));
        assert_eq!(record.target(), target);
        record.slot_and_flags |= ConnRecord::ANSWERED;
        assert_eq!(record.target(), target);
        for flags in [SlotFlags::empty(), SlotFlags::STRICT] {
            let target = Target { slot: 8, flags, ..target };
            record.set_slot(&target);
            assert_eq!(record.target(), target);
            assert!(record.slot_and_flags & ConnRecord::ANSWERED != 0);
        }
    }
}

#[test]
fn getpeername_shows_the_vip_only_to_the_flow_it_was_stored_for() {
    let record = ConnRecord { vip_port: 5432, ..record(VIP, 1, 0) };
    assert_eq!(record.shown_peer([240, 0, 0, 1], 53), Some((VIP, 5432)));
    assert_eq!(record.shown_peer([240, 0, 0, 2], 53), None);
    assert_eq!(record.shown_peer([240, 0, 0, 1], 5432), None);
    assert_eq!(ConnRecord::default().shown_peer([0; 4], 0), None);
}
