//! Random plans on maps in memory. A reader looks after each write, and each write fails once.

use proptest::prelude::*;
use vipnat_common::decide;

use super::{
    fake::FakeMaps,
    tables::{Seen, allowed, destinations, tables},
};
use crate::{
    model::{Mapping, Snapshot},
    plan::Plan,
};

/// Checks that each connect goes where one of the two tables sends it. Takes no turn.
pub(super) fn check(maps: &FakeMaps, old: &[Mapping], new: &[Mapping]) {
    let maps = maps.clone();
    for to in destinations() {
        let verdict = Seen::from(decide(&maps, &to));
        let both = [allowed(old, &to), allowed(new, &to)].concat();
        assert!(both.contains(&verdict), "{to:?} gives {verdict:?}, not one of {both:?}");
    }
}

/// Takes one turn of each VIP that has any.
pub(super) fn connect(maps: &FakeMaps) {
    destinations().iter().for_each(|to| {
        decide(maps, to);
    });
}

/// Checks that each VIP that only the new table has begins with its first turn.
fn check_new_cursors(maps: &FakeMaps, old: &[Mapping], new: &[Mapping]) {
    let is_old =
        |new: &Mapping| old.iter().any(|old| (old.app_id, old.vip) == (new.app_id, new.vip));
    for mapping in new.iter().filter(|new| !is_old(new)) {
        let cursor = maps.maps.cursor_of(mapping.app_id, mapping.vip).expect("a cursor");
        assert_eq!(
            maps.cursors.borrow().get(&cursor),
            None,
            "{mapping:?} goes on with another's turns"
        );
    }
}

proptest! {
    /// After every single write, a connect goes where the old or the new table sends it. At the end it goes
    /// where the new table sends it.
    #[test]
    fn every_write_leaves_the_old_table_or_the_new(
        tables in proptest::collection::vec((tables(), any::<bool>()), 1..5),
    ) {
        let mut maps = FakeMaps::default();
        let mut old = Vec::new();
        for (new, reclaims) in tables {
            if reclaims {
                maps.reclaim(|maps| check(maps, &old, &old)).unwrap();
            }
            maps.change(&new, |maps| check(maps, &old, &new)).unwrap();
            check(&maps, &new, &new);
            prop_assert!(maps.is_tidy());
            let Snapshot { slots, capacity, .. } = maps.maps.clone();
            prop_assert_eq!(&Snapshot::of_slots(slots, capacity), &maps.maps);
            let mappings = maps.maps.mappings();
            prop_assert_eq!(mappings.len(), new.len());
            for mapping in &new {
                prop_assert_eq!(&mappings[&(mapping.app_id, mapping.vip)], mapping);
            }
            prop_assert_eq!(Plan::new(&maps.maps, &new, |_| true).unwrap(), Plan::default());
            connect(&maps);
            old = new;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any write can fail, also one of a repair. The next command then repairs the maps and makes the wanted
    /// table, with nothing left over.
    #[test]
    fn a_failure_anywhere_is_repaired(
        first in tables(), second in tables(), third in tables(), again in any::<bool>(),
    ) {
        let mut maps = FakeMaps::default();
        maps.apply(&first);
        connect(&maps);
        maps.command(&second, |_| {}).unwrap();
        connect(&maps);
        let wanted = if again { &third } else { &second };
        for writes in 0.. {
            let mut maps = FakeMaps { writes_left: Some(writes), ..maps.clone() };
            let done = maps.command(&third, |_| {});
            check(&maps, &second, &third);
            // The repair fails too, one write later.
            maps.writes_left = Some(writes + 1);
            let _ = maps.command(wanted, |maps| check(maps, &second, &third));
            maps.writes_left = None;
            maps.command(wanted, |maps| check(maps, &second, &third)).unwrap();
            check(&maps, wanted, wanted);
            if again {
                check_new_cursors(&maps, &second, &third);
            }
            prop_assert!(maps.is_tidy());
            // A retired list needs two reclaims: the first empties its slots, the second frees them.
            for _ in 0..2 {
                maps.reclaim(|maps| check(maps, wanted, wanted)).unwrap();
            }
            prop_assert_eq!(maps.maps.leftover().count(), 0);
            if done.is_ok() {
                break;
            }
        }
    }
}
