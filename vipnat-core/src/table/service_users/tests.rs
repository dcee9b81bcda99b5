//! The users of services follow a change of the table.

use proptest::prelude::*;

use super::*;
use crate::table::random;

proptest! {
    #[test]
    fn users_follow_a_change_and_are_those_of_the_table(
        tables in prop::collection::vec(random::table(), 1..5),
    ) {
        let mut users = ServiceUsers::of(&tables[0]);
        for change in tables.windows(2) {
            let (old, new) = (&change[0], &change[1]);
            let difference = Difference::between(old, new);
            users.update(new, &difference);
            prop_assert_eq!(&users, &ServiceUsers::of(new));
            let mut touched = BTreeMap::new();
            for (name, app) in &new.apps {
                let of = app.relationships.values();
                let of = of.filter(|of| difference.services.contains(&*of.service));
                let mut vips: BTreeSet<_> = of.map(|of| of.vip).collect();
                vips.extend(difference.apps.get(name).into_iter().flat_map(|app| &app.vips));
                touched.insert(name.clone(), vips);
            }
            for (name, app) in &difference.apps {
                if !new.apps.contains_key(name) {
                    touched.insert(name.clone(), app.vips.clone());
                }
            }
            touched.retain(|_, vips| !vips.is_empty());
            prop_assert_eq!(users.touched(&difference), touched);
        }
    }

    #[test]
    fn each_relationship_is_a_user(table in random::table()) {
        let users = ServiceUsers::of(&table);
        for service in table.services.keys() {
            let mut expected = BTreeSet::new();
            for (name, app) in &table.apps {
                let of = app.relationships.values().filter(|of| *of.service == **service);
                expected.extend(of.map(|of| (name.as_str(), of.vip)));
            }
            prop_assert!(users.users(service).eq(expected));
        }
    }
}
