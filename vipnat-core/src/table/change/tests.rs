//! Changes lead to a table, are undone, and are refused like a whole table.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::table::{App, Problem, random};

/// Some replaced and some removed services and apps, which may not fit.
fn changes() -> impl Strategy<Value = TableChanges> {
    let services = prop::collection::btree_map("s[0-4]", prop::option::of(random::service()), 0..4);
    let apps = prop::collection::btree_map("a[0-3]", prop::option::of(random::app()), 0..3);
    (services, apps).prop_map(|(services, apps)| TableChanges { services, apps })
}

/// The problems without their places, and their number.
fn problems(error: &TableError) -> Vec<String> {
    let mut all: Vec<_> = error
        .problems()
        .iter()
        .map(|Problem { path, reason, help, .. }| format!("{path}: {reason}\n{help}"))
        .collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn changes_lead_from_one_table_to_another_and_back(
        old in random::table(), new in random::table(),
    ) {
        let (mut table, mut index) = (old.clone(), TableIndex::of(&old));
        let changes = TableChanges::between(&old, &new);
        let (difference, undo) = table.change(&mut index, changes, "test").unwrap();
        prop_assert_eq!(&table, &new);
        prop_assert_eq!(&index, &TableIndex::of(&new));
        prop_assert_eq!(difference, Difference::between(&old, &new));
        prop_assert_eq!(&undo, &TableChanges::between(&new, &old));
        let (difference, _) = table.change(&mut index, undo, "test").unwrap();
        prop_assert_eq!(&table, &old);
        prop_assert_eq!(&index, &TableIndex::of(&old));
        prop_assert_eq!(difference, Difference::between(&new, &old));
    }

    #[test]
    fn a_change_is_refused_like_the_table_that_it_leads_to(
        old in random::table(), changes in prop::collection::vec(changes(), 1..4),
    ) {
        let (mut table, mut index) = (old.clone(), TableIndex::of(&old));
        for changes in changes {
            let mut expected = table.clone();
            expected.replace(changes.clone());
            let text = expected.to_json();
            let parsed = Table::parse(text.as_bytes(), "test", Path::new("/sys/fs/cgroup"));
            let before = (table.clone(), index.clone());
            match (table.change(&mut index, changes, "test"), parsed) {
                (Ok((difference, _)), Ok(parsed)) => {
                    prop_assert_eq!(&table, &parsed);
                    prop_assert_eq!(difference, Difference::between(&before.0, &table));
                    prop_assert_eq!(&index, &TableIndex::of(&table));
                }
                (Err(error), Err(of_table)) => {
                    prop_assert_eq!(problems(&error), problems(&of_table));
                    prop_assert_eq!((&table, &index), (&before.0, &before.1));
                }
                (changed, parsed) => prop_assert!(false, "{changed:?}, but {parsed:?}"),
            }
        }
    }
}

#[test]
fn a_bad_change_names_the_changes_and_leaves_the_table_as_it_was() {
    let text = br#"{
        "services": { "db": { "backends": ["240.0.0.1"] } },
        "apps": {
            "blog": { "cgroup": "blog" },
            "shop": { "cgroup": "shop", "relationships": { "db": { "service": "db" } } }
        }
    }"#;
    let mount = Path::new("/sys/fs/cgroup");
    let mut table = Table::parse(text, "table", mount).unwrap();
    let (before, mut index) = (table.clone(), TableIndex::of(&table));
    let mut refused = |changes| {
        let error = table.change(&mut index, changes, "etcd").unwrap_err().to_string();
        assert_eq!(table, before);
        error
    };
    let mut changes = TableChanges::default();
    changes.services.insert("db".to_owned(), None);
    assert_eq!(
        refused(changes),
        "etcd: apps.shop.relationships.db.service: there is no service \"db\"\n    define [services.db]"
    );
    let blog = App::parse(br#"{"cgroup": "shop"}"#, "blog", "etcd", mount).unwrap();
    let mut changes = TableChanges::default();
    changes.apps.insert("blog".to_owned(), Some(blog));
    let error = refused(changes);
    assert!(error.contains("etcd: apps.shop.cgroup: apps \"blog\" and \"shop\" have"), "{error}");
    let mut changes = TableChanges::default();
    changes.apps.extend(["blog", "shop"].map(|name| (name.to_owned(), None)));
    assert!(refused(changes).contains("etcd: the table has no apps"));
    let mut changes = TableChanges::default();
    changes.services.insert("a b".to_owned(), Some(before.services["db"].clone()));
    assert!(refused(changes).contains("white space"));
}
