//! Tests which backends leave after a change of the table, and the policy for their connections.

use std::path::Path;

use vipnat_common::AppId;

use super::*;
use crate::{model::BackendSet, table::Table};

const VIP: Ipv4Addr = Ipv4Addr::new(169, 254, 37, 209);

/// A table in which these apps have `db`, a service with these backends and this policy.
fn table(apps: &[&str], backends: &str, policy: &str) -> Table {
    let mut text =
        format!("[services.s]\nbackends = [{backends}]\n{policy}\n[apps.none]\ncgroup = \"n\"\n");
    for app in apps {
        text += &format!(
            "[apps.{app}]\ncgroup = \"{app}\"\n[apps.{app}.relationships.db]\nservice = \"s\"\n"
        );
    }
    Table::parse(text.as_bytes(), "t", Path::new("/sys/fs/cgroup")).unwrap()
}

fn rule(table: &Table, app: &str) -> Option<Mapping> {
    let relationship = table.apps.get(app)?.relationships.get("db")?;
    let role = BackendSet::from(&table.services[&*relationship.service]);
    Some(Mapping::new(relationship, &role).of_app(AppId(1)))
}

fn change(app: &str, old: &Table, new: &Table) -> Change {
    let (old, new) = (rule(old, app), rule(new, app));
    Change::Vip { app: app.to_owned(), relationship: Some("db".to_owned()), vip: VIP, old, new }
}

/// The last numbers and ports of the backends that leave `shop`, and the policy for their connections.
fn leave(old: &Table, new: &Table, heirs: &[(&str, &str)]) -> Vec<(u8, u16, OnBackendRemoved)> {
    let heirs = heirs.iter().copied().collect();
    let desired = Desired::without_cgroups(new);
    removed_backends(&[change("shop", old, new)], &desired, &NameIndex::of(old), &heirs)
        .into_iter()
        .map(|(removed, policy)| {
            assert_eq!(
                (removed.app.as_str(), removed.app_id, removed.vip),
                ("shop", AppId(1), VIP)
            );
            (removed.backend.ip.octets()[3], removed.backend.port, policy)
        })
        .collect()
}

#[test]
fn who_leaves_and_what_that_means() {
    use OnBackendRemoved::{Drain, Kill};
    const A: &str = "\"240.0.0.1\"";
    const A_AT_80: &str = "{ ip = \"240.0.0.1\", port = 80 }";
    const A_TWICE: &str = "{ ip = \"240.0.0.1\", weight = 2 }, \"240.0.0.2\"";
    const B: &str = "\"240.0.0.2\"";
    const BOTH: &str = "\"240.0.0.1\", \"240.0.0.2\"";
    const KILL: &str = "on-backend-removed = \"kill\"";
    const DRAIN: &str = "on-backend-removed = \"drain\"\ndrain-seconds = 7";

    let cases = [
        ("one leaves", (BOTH, KILL), (B, KILL), vec![(1, 0, Kill)]),
        ("the other policy", (BOTH, KILL), (B, DRAIN), vec![(1, 0, Drain(7))]),
        ("the new table's counts", (BOTH, KILL), (B, ""), vec![]),
        ("even if the old one's was none", (BOTH, ""), (B, KILL), vec![(1, 0, Kill)]),
        ("all leave", (BOTH, KILL), ("", KILL), vec![(1, 0, Kill), (2, 0, Kill)]),
        ("another comes", (A, KILL), (BOTH, KILL), vec![]),
        ("another order", (BOTH, KILL), ("\"240.0.0.2\", \"240.0.0.1\"", KILL), vec![]),
        ("another weight", (BOTH, KILL), (A_TWICE, KILL), vec![]),
        ("once, whatever its weight", (A_TWICE, KILL), (B, KILL), vec![(1, 0, Kill)]),
        ("another port", (A_AT_80, KILL), (A, KILL), vec![(1, 80, Kill)]),
    ];
    for (case, (old, old_policy), (new, new_policy), expected) in cases {
        let (old, new) = (table(&["shop"], old, old_policy), table(&["shop"], new, new_policy));
        assert_eq!(leave(&old, &new, &[]), expected, "{case}");
    }
    for (case, policy, expected) in [
        ("kill", KILL, vec![(1, 0, Kill)]),
        ("drain", DRAIN, vec![(1, 0, Drain(7))]),
        ("", "", vec![]),
    ] {
        let (old, gone) = (table(&["shop"], A, policy), table(&[], A, KILL));
        assert_eq!(leave(&old, &gone, &[]), expected, "a relationship that goes: {case}");
    }
}

#[test]
fn an_app_that_gets_another_name_loses_nobody() {
    let kill = "on-backend-removed = \"kill\"";
    let old = table(&["shop"], "\"240.0.0.1\", \"240.0.0.2\"", kill);
    let new = table(&["store"], "\"240.0.0.2\"", kill);
    assert_eq!(leave(&old, &new, &[("shop", "store")]), [(1, 0, OnBackendRemoved::Kill)]);
    let both = [(1, 0, OnBackendRemoved::Kill), (2, 0, OnBackendRemoved::Kill)];
    assert_eq!(leave(&old, &new, &[]), both);
    assert_eq!(leave(&old, &new, &[("shop", "none")]), both, "without that VIP");
}

#[test]
fn a_flow_is_judged_by_where_it_was_led_and_whether_it_still_would_be() {
    let note = |app, vip: Ipv4Addr, backend: u8, vip_port, backend_port| ConnRecord {
        app,
        vip: vip.octets(),
        backend: [240, 0, 0, backend],
        vip_port,
        backend_port,
        ..ConnRecord::default()
    };
    let removed = |port| RemovedBackend {
        app: "shop".to_owned(),
        relationship: None,
        app_id: AppId(1),
        vip: VIP,
        backend: Backend { ip: Ipv4Addr::new(240, 0, 0, 1), port },
    };
    let mappings = |backends: &str| {
        let rule = rule(&table(&["shop"], backends, ""), "shop").unwrap();
        Mappings::from([((AppId(1), VIP), rule)])
    };
    let none = Mappings::new();
    let good = note(1, VIP, 1, 5432, 5432);
    assert!(removed(0).was_given(&good, &none));
    assert!(removed(80).was_given(&note(1, VIP, 1, 5432, 80), &none));
    for (what, other) in [
        ("another app", note(2, VIP, 1, 5432, 5432)),
        ("another VIP", note(1, Ipv4Addr::new(169, 254, 1, 1), 1, 5432, 5432)),
        ("no VIP", note(1, Ipv4Addr::UNSPECIFIED, 1, 5432, 5432)),
        ("another backend", note(1, VIP, 2, 5432, 5432)),
        ("another port", note(1, VIP, 1, 5432, 80)),
    ] {
        assert!(!removed(0).was_given(&other, &none), "{what}");
    }
    assert!(removed(0).was_given(&good, &mappings("\"240.0.0.2\"")));
    let at_its_port = mappings("{ ip = \"240.0.0.1\", port = 5432 }");
    assert!(!removed(0).was_given(&good, &at_its_port), "the list says the same in other words");
    assert!(removed(0).was_given(&note(1, VIP, 1, 80, 80), &at_its_port));
    assert!(removed(0).is_back(&mappings("\"240.0.0.1\"")) && !removed(0).is_back(&at_its_port));
}
