//! Plans of live maps are those of the whole snapshot, and their indices stay right.

use std::{collections::BTreeSet, convert::Infallible};

use proptest::prelude::*;

use crate::plan::{
    LiveMaps, Plan, Reclaim, changes, execute,
    tests::{fake::FakeMaps, tables::tables},
};

proptest! {
    /// A plan for the VIPs that differ is the plan for the whole table.
    #[test]
    fn a_plan_for_some_vips_is_that_of_the_whole_table(
        tables in proptest::collection::vec((tables(), any::<bool>()), 1..6),
    ) {
        let mut fake = FakeMaps::default();
        let mut live = LiveMaps::new(fake.maps.clone());
        let mut old = Vec::new();
        for (new, reclaims) in tables {
            if reclaims {
                let reclaim = live.reclaim();
                prop_assert_eq!(&reclaim, &Reclaim::new(&fake.maps));
                fake.run(&reclaim.steps(), |_| {}).unwrap();
                let Ok::<(), Infallible>(()) = execute(&reclaim.steps(), &mut live);
            }
            let differ = old.iter().filter(|old| !new.contains(old));
            let differ = differ.chain(new.iter().filter(|new| !old.contains(new)));
            let touched: BTreeSet<_> = differ.map(|some| (some.app_id, some.vip)).collect();
            let some = new.iter().filter(|new| touched.contains(&(new.app_id, new.vip)));
            let some: Vec<_> = some.cloned().collect();
            let plan = live.plan(&touched, &some).unwrap();
            prop_assert_eq!(&plan, &Plan::new(&fake.maps, &new, |_| true).unwrap());
            prop_assert_eq!(live.changes(&some, &plan), changes(&fake.maps, &new, &plan));
            fake.run(&plan.steps(), |_| {}).unwrap();
            let Ok::<(), Infallible>(()) = execute(&plan.steps(), &mut live);
            prop_assert_eq!(live.snapshot(), &fake.maps);
            prop_assert_eq!(&live, &LiveMaps::new(fake.maps.clone()));
            prop_assert_eq!(live.resting(), fake.maps.leftover().count());
            prop_assert!(live.is_tidy());
            old = new;
        }
    }
}
