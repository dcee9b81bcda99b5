//! Single plans: their writes, and the slots and cursors that they take.

use vipnat_common::{AppId, Destination, Protocol, VipKey, decide};

use super::{
    fake::{CAPACITY, FakeMaps},
    tables::{VIPS, mapping},
};
use crate::{
    model::{Capacity, Snapshot},
    plan::{Plan, Reclaim, changes},
};

#[test]
fn cursors_stay_with_their_vip_and_are_not_shared() {
    let mut maps = FakeMaps::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    maps.apply(&[
        mapping(1, a, 0, any, &[1, 2, 3]),
        mapping(1, b, 0, any, &[1]),
        mapping(2, a, 0, any, &[1]),
    ]);
    let cursor = |maps: &FakeMaps, app, vip| maps.maps.cursor_of(AppId(app), vip).unwrap();
    let (first, second, third) = (cursor(&maps, 1, a), cursor(&maps, 1, b), cursor(&maps, 2, a));
    assert!(first != second && second != third && first != third);
    let to = Destination {
        app: AppId(1),
        ip: a.octets(),
        port: 80,
        protocol: Protocol::Tcp,
        connect: true,
    };
    for _ in 0..4 {
        decide(&maps, &to);
    }
    // Other backends, a limit, no backends: the count goes on.
    for table in
        [mapping(1, a, 0, any, &[4, 5]), mapping(1, a, 80, any, &[4]), mapping(1, a, 0, any, &[])]
    {
        maps.apply(&[table, mapping(2, a, 0, any, &[1])]);
        assert_eq!(cursor(&maps, 1, a), first);
        assert_eq!(cursor(&maps, 2, a), third);
    }
    assert_eq!(maps.cursors.borrow()[&first], 4);
    // A VIP that is removed and added again starts anew.
    maps.apply(&[mapping(2, a, 0, any, &[1])]);
    maps.apply(&[mapping(1, a, 0, any, &[1]), mapping(2, a, 0, any, &[1])]);
    assert_ne!(cursor(&maps, 1, a), first, "its slots may still be in use");
    maps.reclaim(|_| {}).unwrap();
    assert!(!maps.cursors.borrow().contains_key(&first));
}

/// Emptied slots name the first cursor; that name means nothing.
#[test]
fn the_first_cursor_is_reset_beside_emptied_slots() {
    let mut maps = FakeMaps::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    maps.apply(&[mapping(1, a, 0, any, &[1]), mapping(1, b, 0, any, &[1])]);
    assert_eq!(maps.maps.cursor_of(AppId(1), a), Some(0));
    maps.apply(&[mapping(1, a, 0, any, &[1]), mapping(1, b, 0, any, &[2])]);
    maps.reclaim(|_| {}).unwrap();
    maps.apply(&[mapping(1, b, 0, any, &[2])]);
    assert_eq!(Reclaim::new(&maps.maps).cursors, [0]);
}

#[test]
fn an_unchanged_vip_is_not_written() {
    let mut maps = FakeMaps::default();
    let any = Protocol::Any;
    let [a, b] = VIPS;
    maps.apply(&[mapping(1, a, 0, any, &[1]), mapping(1, b, 53, any, &[1])]);
    let table = [mapping(1, a, 0, any, &[2]), mapping(1, b, 53, any, &[1])];
    let plan = Plan::new(&maps.maps, &table, |_| true).unwrap();
    assert_eq!(plan.switches.len(), 1);
    assert_eq!((plan.slots.len(), plan.removals.len(), plan.retired.len()), (1, 0, 1));
    assert_eq!(changes(&maps.maps, &table, &plan).len(), 1);
}

#[test]
fn other_apps_are_left_alone() {
    let mut maps = FakeMaps::default();
    let any = Protocol::Any;
    maps.apply(&[mapping(1, VIPS[0], 0, any, &[1]), mapping(2, VIPS[0], 0, any, &[1])]);
    let plan = Plan::new(&maps.maps, &[], |app_id| app_id == AppId(2)).unwrap();
    assert_eq!(plan.removals, [VipKey::head(AppId(2), VIPS[0].octets())]);
    assert_eq!(plan.retired.len(), 1);
}

#[test]
fn a_table_too_large_says_which_map() {
    let huge: Vec<u8> = vec![0; CAPACITY.backends as usize + 1];
    let table = [mapping(1, VIPS[0], 0, Protocol::Any, &huge)];
    let error = Plan::new(&Snapshot::fresh(CAPACITY), &table, |_| true).unwrap_err().to_string();
    assert!(error.contains("map `backends`") && error.contains("256"), "{error}");
    let mut larger = Snapshot::fresh(CAPACITY);
    larger.grow(Capacity { backends: 257, ..CAPACITY });
    assert_eq!(Plan::new(&larger, &table, |_| true).unwrap().slots.len(), 257);
}
