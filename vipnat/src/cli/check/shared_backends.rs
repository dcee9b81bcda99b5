//! Relationships of an app that lead to one address and port. They share the local ports towards it, which
//! behind rules they do not: to the kernel a connection is two addresses and two ports, and the backend's are
//! in it, not the VIP's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::Ipv4Addr,
    num::NonZeroU16,
};

use vipnat_common::Protocol;

use crate::table::{App, Relationship, Table};

/// How many remarks are shown, and how many names or addresses in each.
const REMARKS: usize = 5;
const NAMES: usize = 3;

/// What there is to say of a table, a line each; nothing if no app has such relationships.
pub(super) fn remarks(table: &Table) -> Vec<String> {
    let mut count = 0;
    let mut remarks = Vec::new();
    for (app, shared) in table
        .apps
        .iter()
        .flat_map(|(name, app)| shared(table, app).into_iter().map(move |shared| (name, shared)))
    {
        count += 1;
        if count <= REMARKS {
            remarks.push(format!("app {app}: {shared}"));
        }
    }
    match count.saturating_sub(REMARKS) {
        0 => {}
        1 => remarks.push("1 more group of relationships with a backend in common".to_owned()),
        more => {
            remarks.push(format!("{more} more groups of relationships with a backend in common"));
        }
    }
    if count > 0 {
        remarks.push(
            "connections of such relationships to that backend share one range of local ports; see \
             \"Several VIPs of one backend\" in docs/semantics.md"
                .to_owned(),
        );
    }
    remarks
}

/// Relationships that lead to the same backends, in the order of their names.
#[derive(Debug, PartialEq)]
struct Shared<'a> {
    relationships: Vec<&'a str>,
    backends: BTreeSet<Ipv4Addr>,
}

impl fmt::Display for Shared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relationships, backends } = self;
        let plural = if backends.len() == 1 { "" } else { "s" };
        let (relationships, backends) = (some(relationships.iter()), some(backends.iter()));
        write!(f, "relationships {relationships} lead to backend{plural} {backends}")
    }
}

/// `a, b, c and 2 more`
fn some(all: impl ExactSizeIterator<Item: fmt::Display>) -> String {
    let more = all.len().saturating_sub(NAMES);
    let shown: Vec<_> = all.take(NAMES).map(|one| one.to_string()).collect();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &rest
}

/// What relationships must have in common to lead to the same places.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind<'a> {
    service: &'a str,
    port: Option<NonZeroU16>,
    protocol: Option<Protocol>,
}

/// The groups of an app's relationships that share backends. An app may have very many relationships of one
/// service, so those of one kind are looked at together.
fn shared<'a>(table: &'a Table, app: &'a App) -> Vec<Shared<'a>> {
    let mut names: Vec<Vec<&str>> = Vec::new();
    let mut numbers: HashMap<Kind<'_>, usize> = HashMap::new();
    let mut kinds = Vec::new();
    for (name, Relationship { service, port, protocol, .. }) in app.relationships.iter() {
        let kind = Kind { service, port: *port, protocol: *protocol };
        let number = *numbers.entry(kind).or_insert_with(|| {
            kinds.push(kind);
            names.push(Vec::new());
            kinds.len() - 1
        });
        names[number].push(name);
    }

    let mut groups: BTreeMap<BTreeSet<usize>, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut places: HashMap<Ipv4Addr, Place> = HashMap::new();
        for (number, Kind { service, port, protocol: only }) in kinds.iter().enumerate() {
            if only.is_some_and(|only| only != protocol) {
                continue;
            }
            for backend in &table.services[*service].backends {
                let place = places.entry(backend.ip).or_default();
                place.kinds(backend.port.or(*port)).insert(number);
            }
        }
        for (ip, place) in places {
            for group in place.groups() {
                if group.len() > 1 || group.iter().any(|number| names[*number].len() > 1) {
                    groups.entry(group).or_default().insert(ip);
                }
            }
        }
    }
    let of = |(group, backends): (BTreeSet<usize>, _)| {
        let mut relationships: Vec<_> =
            group.iter().flat_map(|number| &names[*number]).copied().collect();
        relationships.sort_unstable();
        Shared { relationships, backends }
    };
    groups.into_iter().map(of).collect()
}

/// The kinds that lead to an address.
#[derive(Default)]
struct Place {
    /// At whatever port the application asks for.
    any_port: BTreeSet<usize>,
    one_port: HashMap<NonZeroU16, BTreeSet<usize>>,
}

impl Place {
    fn kinds(&mut self, port: Option<NonZeroU16>) -> &mut BTreeSet<usize> {
        match port {
            None => &mut self.any_port,
            Some(port) => self.one_port.entry(port).or_default(),
        }
    }

    /// Those that may lead to one port of it.
    fn groups(self) -> Vec<BTreeSet<usize>> {
        let Self { any_port, one_port } = self;
        if any_port.is_empty() {
            return one_port.into_values().collect();
        }
        vec![one_port.into_values().fold(any_port, |mut all, kinds| {
            all.extend(kinds);
            all
        })]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A table of the app `shop` with these services and relationships, each `NAME = VALUE` of TOML.
    fn table(services: &[&str], relationships: &[&str]) -> Table {
        let text = format!(
            "[services]\n{}\n[apps.shop]\ncgroup = \"shop\"\n[apps.shop.relationships]\n{}\n",
            services.join("\n"),
            relationships.join("\n")
        );
        Table::parse(text.as_bytes(), "table", Path::new("/sys/fs/cgroup")).unwrap()
    }

    /// What is said of it, but for the advice.
    fn said(services: &[&str], relationships: &[&str]) -> Vec<String> {
        let mut remarks = remarks(&table(services, relationships));
        let advice = remarks.pop();
        assert!(advice.is_none_or(|advice| advice.contains("docs/semantics.md")));
        remarks
    }

    const ONE: &str = "one.backends = [\"247.0.0.1\"]";

    #[test]
    fn two_relationships_of_one_service_share_its_backends() {
        let expected = "app shop: relationships a, b lead to backend 247.0.0.1";
        assert_eq!(said(&[ONE], &["a.service = \"one\"", "b.service = \"one\""]), [expected]);
    }

    #[test]
    fn so_do_those_of_two_services_with_a_backend_in_common() {
        let services = [ONE, "two.backends = [\"247.0.0.2\", \"247.0.0.1\"]"];
        let relationships = ["b.service = \"one\"", "a.service = \"two\""];
        let expected = "app shop: relationships a, b lead to backend 247.0.0.1";
        assert_eq!(said(&services, &relationships), [expected]);
    }

    #[test]
    fn nothing_is_said_where_ports_or_protocols_keep_them_apart() {
        let apart: [&[&str]; 4] = [
            &["a = { service = \"one\", port = 1 }", "b = { service = \"one\", port = 2 }"],
            &[
                "a = { service = \"one\", protocol = \"tcp\" }",
                "b = { service = \"one\", protocol = \"udp\" }",
            ],
            &["a.service = \"one\"", "b.service = \"two\""],
            &["a.service = \"one\""],
        ];
        for relationships in apart {
            let services = [ONE, "two.backends = [\"247.0.0.2\"]"];
            assert!(said(&services, relationships).is_empty(), "{relationships:?}");
        }
    }

    #[test]
    fn a_port_of_the_backend_brings_them_together_and_others_do_not() {
        let services = [
            "one.backends = [{ ip = \"247.0.0.1\", port = 80 }]",
            "two.backends = [{ ip = \"247.0.0.1\", port = 81 }]",
            "any.backends = [\"247.0.0.1\"]",
        ];
        let two = ["a = { service = \"one\", port = 1 }", "b = { service = \"one\", port = 2 }"];
        assert_eq!(said(&services, &two).len(), 1);
        let two = ["a.service = \"one\"", "b.service = \"two\""];
        assert!(said(&services, &two).is_empty());
        let three = ["a.service = \"one\"", "b.service = \"two\"", "c.service = \"any\""];
        let expected = "app shop: relationships a, b, c lead to backend 247.0.0.1";
        assert_eq!(said(&services, &three), [expected]);
    }

    #[test]
    fn many_are_said_in_few_words() {
        let list: Vec<_> = (0..9).map(|n| format!("\"247.0.0.{n}\"")).collect();
        let service = format!("one.backends = [{}]", list.join(", "));
        let relationships: Vec<_> = (0..5).map(|n| format!("r{n}.service = \"one\"")).collect();
        let relationships: Vec<_> = relationships.iter().map(String::as_str).collect();
        let expected = "app shop: relationships r0, r1, r2 and 2 more lead to backends 247.0.0.0, \
                        247.0.0.1, 247.0.0.2 and 6 more";
        assert_eq!(said(&[&service], &relationships), [expected]);

        let services: Vec<_> =
            (0..9).map(|n| format!("s{n}.backends = [\"247.0.0.{n}\"]")).collect();
        let services: Vec<_> = services.iter().map(String::as_str).collect();
        let relationships: Vec<_> =
            (0..18).map(|n| format!("r{n}.service = \"s{}\"", n / 2)).collect();
        let relationships: Vec<_> = relationships.iter().map(String::as_str).collect();
        let said = said(&services, &relationships);
        assert_eq!(said.len(), REMARKS + 1);
        assert_eq!(said[REMARKS], "4 more groups of relationships with a backend in common");
    }
}
