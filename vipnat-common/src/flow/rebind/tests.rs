//! The backend to which a flow goes on while its list changes.

use super::*;
use crate::{
    abi::{AppId, VipKey},
    simulated::{Simulated, TCP, UDP, VIP, head, target, to},
};

#[test]
fn a_flow_keeps_its_backend_while_the_table_has_it() {
    let mut maps = Simulated::default();
    let key = head(1, VIP);
    let old = maps.add(key, &[(1, 0), (2, 0), (3, 0)], SlotFlags::empty());
    let to = to(1, VIP, 53, UDP);
    target(&maps, to);
    let had = target(&maps, to);
    assert_eq!(had.ip, [240, 0, 0, 2]);
    let turns = maps.turns();
    assert_eq!(rebind(&maps, &to, &had).map(|t| (t.ip, t.slot)), Some(([240, 0, 0, 2], 1)));

    // Another list has it at another place. The old slots belong to another app.
    maps.add(key, &[(5, 0), (6, 0), (2, 0)], SlotFlags::empty());
    for index in old.first..old.first + old.count {
        maps.slots[index as usize].owner.app = 9;
    }
    assert_eq!(rebind(&maps, &to, &had).map(|t| (t.ip, t.slot)), Some(([240, 0, 0, 2], 5)));
    // The same address on another port is another backend.
    maps.add(key, &[(2, 54)], SlotFlags::empty());
    assert_eq!(rebind(&maps, &to, &had), None);
    maps.add(key, &[(1, 0)], SlotFlags::empty());
    assert_eq!(rebind(&maps, &to, &had), None);
    maps.add(key, &[(0, 0)], SlotFlags::UNREACHABLE);
    assert_eq!(rebind(&maps, &to, &had), None);
    maps.vips.clear();
    maps.slots.clear();
    assert_eq!(rebind(&maps, &to, &had), None);
    assert_eq!(maps.turns(), turns);
}

/// The slot at the index that a socket kept may belong to the same VIP again, with another limit.
#[test]
fn a_flow_to_what_is_no_longer_translated_ends() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 0)], SlotFlags::empty());
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.slots[0].owner = VipKey::new(AppId(1), VIP, 80, TCP);
    maps.vips.clear();
    assert_eq!(rebind(&maps, &to, &had), None);
    maps.slots[0].owner = VipKey::new(AppId(1), VIP, 53, UDP);
    assert!(rebind(&maps, &to, &had).is_some());
}

#[test]
fn a_service_that_becomes_strict_pins_the_flows_it_has() {
    let mut maps = Simulated::default();
    let key = head(1, VIP);
    maps.add(key, &[(1, 0)], SlotFlags::empty());
    let to = to(1, VIP, 53, UDP);
    let mut had = target(&maps, to);
    maps.slots[0].flags = SlotFlags::STRICT.bits();
    assert_eq!(rebind(&maps, &to, &had).unwrap().flags, SlotFlags::STRICT);
    had.flags |= SlotFlags::STRICT;
    maps.slots[0].flags = 0;
    assert_eq!(rebind(&maps, &to, &had).unwrap().flags, SlotFlags::empty());
}

#[test]
fn a_flow_of_a_limited_vip_is_followed_too() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(0, 0)], SlotFlags::LIMITED);
    let key = VipKey::new(AppId(1), VIP, 53, UDP);
    maps.add(key, &[(1, 5353), (2, 5353)], SlotFlags::empty());
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.slots[1].owner.app = 9;
    maps.add(key, &[(3, 5353), (1, 5353)], SlotFlags::empty());
    assert_eq!(rebind(&maps, &to, &had).map(|t| (t.ip, t.port)), Some(([240, 0, 0, 1], 5353)));
}

#[test]
fn a_strict_flow_keeps_its_backend_whatever_the_table_says() {
    let mut maps = Simulated::default();
    maps.add(head(1, VIP), &[(1, 0)], SlotFlags::STRICT);
    let to = to(1, VIP, 53, UDP);
    let had = target(&maps, to);
    maps.vips.clear();
    maps.slots.clear();
    assert_eq!(rebind(&maps, &to, &had).map(|target| target.ip), Some([240, 0, 0, 1]));
}
