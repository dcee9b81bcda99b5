//! The import of exported rules gives the same table, and no damaged rules make it panic.

use std::{net::Ipv4Addr, path::Path};

use proptest::prelude::*;

use crate::{
    firewall::{
        Packets,
        import::{Import, import},
        iptables,
    },
    table::Table,
};

/// A table with every kind of relationship.
const TABLE: &str = r#"
    [services.plain]
    backends = ["247.0.0.1", "247.0.0.2", "247.0.0.3"]
    [services.mixed]
    backends = [{ ip = "247.0.0.1", port = 81, weight = 3 }, "247.0.0.2", { ip = "247.0.0.3", weight = 2 }]
    [services.chance]
    select = "random"
    backends = [{ ip = "247.0.0.1", port = 81, weight = 3 }, "247.0.0.2", { ip = "247.0.0.3", weight = 5 }]
    [services.empty]
    backends = []
    [apps.shop]
    cgroup = "shop"
    relationships.a.service = "plain"
    relationships.b = { service = "mixed", port = 80 }
    relationships.c = { service = "mixed", protocol = "udp" }
    relationships.d = { service = "chance", vip = "169.254.1.1", port = 80, protocol = "tcp" }
    relationships.e = { service = "empty" }
    relationships."f\"$(x)`\\'" = { service = "chance" }
    relationships.g = [{ service = "plain", vip = "169.254.9.9" }, { service = "chance" }]
    relationships.h = { service = "plain", vip = "169.254.9.9" }
    relationships."i:" = { service = "again", vip = "169.254.9.9" }
    [services.again]
    backends = ["247.0.0.1", "247.0.0.2", "247.0.0.3"]
"#;

fn table() -> Table {
    Table::parse(TABLE.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap()
}

#[test]
fn an_export_is_imported_as_it_was() {
    let table = table();
    let app = &table.apps["shop"];
    let Import { services, relationships, unsupported, notes } =
        import(&iptables(&table, app, Packets::TcpAndUdp));
    assert_eq!((unsupported, notes), (Vec::new(), Vec::new()));
    assert_eq!((services, relationships), (table.services, app.relationships.clone()));
}

#[test]
fn endpoints_keep_their_order_where_another_relationship_has_the_vip_of_one() {
    let text = r#"
        services.primary.backends = ["247.0.0.1"]
        services.replica.backends = ["247.0.0.2"]
        [apps.shop]
        cgroup = "shop"
        relationships.admin = { service = "replica", vip = "169.254.1.2" }
        relationships.db = [
            { service = "primary", vip = "169.254.1.1" },
            { service = "replica", vip = "169.254.1.2" },
            { service = "primary", vip = "169.254.0.9" },
        ]
    "#;
    let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
    let rules = iptables(&table, &table.apps["shop"], Packets::TcpAndUdp);
    let again = import(&rules);
    assert_eq!(again.relationships, table.apps["shop"].relationships, "{rules}");
    // Older comments have no places in the list. Then only the order can be wrong.
    let old = import(&rules.replace("db[1]:", "db:").replace("db[2]:", "db:"));
    assert_eq!((old.relationships.len(), old.unsupported), (4, Vec::new()));
    let groups: Vec<_> = old.relationships.groups().map(|(name, of)| (name, of.len())).collect();
    assert_eq!(groups, [("admin", 1), ("db", 3)]);
}

/// The name `n14074` derives the VIP 169.254.25.10, an address that another service uses too.
#[test]
fn a_vip_that_its_name_gives_is_imported_even_where_another_service_is_known() {
    let text = r#"
        services.db.backends = ["247.0.0.1", "247.0.0.2"]
        services.none.backends = []
        [apps.shop]
        cgroup = "shop"
        relationships.n14074.service = "db"
    "#;
    for text in [text.to_owned(), text.replace("service = \"db\"", "service = \"none\"")] {
        let table = Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap();
        let app = &table.apps["shop"];
        assert_eq!(app.relationships["n14074"].vip, Ipv4Addr::new(169, 254, 25, 10));
        let rules = iptables(&table, app, Packets::TcpAndUdp);
        let again = import(&rules);
        assert_eq!((&*again.unsupported, &*again.notes), (&[][..], &[][..]), "{rules}");
        assert_eq!(again.relationships, app.relationships, "{rules}");
        well_formed(&again);
        // The VIP stays valid only if all names derive it, and if a table can have them.
        let long = "s".repeat(64);
        for names in ["db: db", "n14074: db db: db", "", &format!("n14074: {long}")] {
            let other = rules.replace("n14074: db", names).replace("n14074: none", names);
            assert!(import(&other).relationships.is_empty(), "{other}");
        }
    }
}

#[test]
fn rules_beside_vipnat_are_none_of_a_table() {
    let table = table();
    let import = import(&iptables(&table, &table.apps["shop"], Packets::Unreached));
    assert_eq!(import.unsupported, Vec::new());
    assert!(import.relationships.is_empty());
}

proptest! {
    #[test]
    fn damaged_rules_are_refused_or_make_a_good_table(
        damages in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, "[ -~\t\"\\\\]{0,6}|[0-9.:/-]{1,4}"), 0..8),
    ) {
        let table = table();
        let mut text = iptables(&table, &table.apps["shop"], Packets::TcpAndUdp);
        for (place, kind, with) in damages {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let line = place.index(lines.len());
            match kind {
                0 => drop(lines.remove(line)),
                1 => lines.insert(line, lines[place.index(line + 1)].clone()),
                2 => lines.push(lines[line].clone()),
                _ => {
                    let words = lines[line].split(' ').count();
                    let at = place.index(words);
                    let replaced = lines[line].split(' ').enumerate();
                    lines[line] = replaced
                        .map(|(i, word)| if i == at { with.as_str() } else { word })
                        .collect::<Vec<_>>()
                        .join(" ");
                }
            }
            text = lines.join("\n") + "\n";
        }
        well_formed(&import(&text));
    }

    #[test]
    fn any_text_is_refused_or_makes_a_good_table(text in ".*") {
        well_formed(&import(&text));
        well_formed(&import(&format!("*nat\n-A OUTPUT {text}\n")));
    }
}

/// Checks that the imported relationships make a valid table.
fn well_formed(import: &Import) {
    for remark in import.unsupported.iter().chain(&import.notes) {
        assert!(remark.to_string().lines().count() >= 2);
    }
    let mut table = table();
    table.services = import.services.clone();
    table.apps.get_mut("shop").unwrap().relationships = import.relationships.clone();
    let text = table.to_toml().unwrap();
    let again = Table::parse(text.as_bytes(), "imported", Path::new("/sys/fs/cgroup"));
    assert_eq!(again.as_ref(), Ok(&table), "{text}");
}
