//! Finds relationships of an app that lead to one backend address and port.
//!
//! Connections of such relationships share one range of local ports. The kernel identifies a connection by
//! two addresses and two ports, and sees those of the backend, not of the VIP. With rules of iptables it
//! sees those of the VIP, so each relationship has a range of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::Hash,
    net::Ipv4Addr,
    num::NonZeroU16,
};

use vipnat_common::Protocol;
use vipnat_core::table::{App, Relationship, Table};

/// The largest number of remarks to print.
const REMARKS: usize = 5;
/// The largest number of names or addresses in each remark.
const NAMES: usize = 3;

/// One line for each group of such relationships; none if no app has any.
pub(crate) fn remarks(table: &Table) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut count = 0;
    for (name, app) in &table.apps {
        let groups = Groups::of(table, app);
        count += groups.count();
        let shown = groups.first(REMARKS - remarks.len());
        remarks.extend(shown.iter().map(|shared| format!("app {name}: {shared}")));
    }
    match count - remarks.len() {
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

/// Relationships of one kind lead to the same backend addresses and ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    /// The number of the service among those of the app.
    service: usize,
    port: Option<NonZeroU16>,
    protocol: Option<Protocol>,
}

/// The relationships of an app by kind, and the kinds that share backends. An app may have very many
/// relationships of one kind.
struct Groups<'a> {
    /// The names of the relationships of each kind.
    names: Vec<Vec<&'a str>>,
    /// Sets of backends. All of one set belong to the same services, with the same ports.
    backends: Vec<BTreeSet<Ipv4Addr>>,
    /// Groups of kinds, and the sets of `backends` that they share.
    shared: BTreeMap<Vec<usize>, Vec<usize>>,
}

impl<'a> Groups<'a> {
    fn of(table: &'a Table, app: &'a App) -> Self {
        let mut services = Numbered::default();
        let mut kinds = Numbered::default();
        let mut names: Vec<Vec<&str>> = Vec::new();
        for (name, Relationship { service, port, protocol, .. }) in app.mappings() {
            let service = services.number(&**service);
            let kind = kinds.number(Kind { service, port: *port, protocol: *protocol });
            names.resize_with(kinds.all.len(), Vec::new);
            names[kind].push(name);
        }
        let mut of_service = vec![Vec::new(); services.all.len()];
        for (number, kind) in kinds.all.iter().enumerate() {
            of_service[kind.service].push(number);
        }
        let mut groups = Self { names, backends: Vec::new(), shared: BTreeMap::new() };
        for (backends, holders) in same_holders(table, &services.all) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let mut place = Place::default();
                for (service, port) in &holders {
                    for &number in &of_service[*service] {
                        let Kind { port: asked, protocol: only, .. } = kinds.all[number];
                        if only.is_none_or(|only| only == protocol) {
                            place.kinds(port.or(asked)).push(number);
                        }
                    }
                }
                groups.add(place);
            }
            groups.backends.push(backends);
        }
        groups
    }

    /// Records the groups of kinds that share the next set of backends.
    fn add(&mut self, place: Place) {
        let next = self.backends.len();
        for mut kinds in place.groups() {
            kinds.sort_unstable();
            kinds.dedup();
            if kinds.len() > 1 || kinds.iter().any(|kind| self.names[*kind].len() > 1) {
                let backends = self.shared.entry(kinds).or_default();
                // The set may be there already, for the other protocol.
                if backends.last() != Some(&next) {
                    backends.push(next);
                }
            }
        }
    }

    fn count(&self) -> usize {
        self.shared.len()
    }

    /// The first groups, with all their names.
    fn first(&self, count: usize) -> Vec<Shared<'a>> {
        let of = |(kinds, backends): (&Vec<usize>, &Vec<usize>)| {
            let mut relationships: Vec<_> =
                kinds.iter().flat_map(|kind| &self.names[*kind]).copied().collect();
            relationships.sort_unstable();
            let backends = backends.iter().flat_map(|of| &self.backends[*of]).copied().collect();
            Shared { relationships, backends }
        };
        self.shared.iter().take(count).map(of).collect()
    }
}

/// Gives each distinct value a number.
struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbered<T> {
    fn number(&mut self, value: T) -> usize {
        *self.numbers.entry(value).or_insert_with(|| {
            self.all.push(value);
            self.all.len() - 1
        })
    }
}

/// The services that have a backend, each with the backend's port in it.
type Holders = Vec<(usize, Option<NonZeroU16>)>;

/// The backends of these services, grouped by the services that have them.
fn same_holders(table: &Table, services: &[&str]) -> Vec<(BTreeSet<Ipv4Addr>, Holders)> {
    let mut holders: BTreeMap<Ipv4Addr, Holders> = BTreeMap::new();
    for (number, service) in services.iter().enumerate() {
        for backend in &table.services[*service].backends {
            holders.entry(backend.ip).or_default().push((number, backend.port));
        }
    }
    let mut same: HashMap<Holders, BTreeSet<Ipv4Addr>> = HashMap::new();
    for (ip, holders) in holders {
        same.entry(holders).or_default().insert(ip);
    }
    same.into_iter().map(|(holders, backends)| (backends, holders)).collect()
}

/// The kinds that lead to one backend address.
#[derive(Default)]
struct Place {
    /// Kinds that keep the port that the application asks for.
    any_port: Vec<usize>,
    /// Kinds that lead to a fixed port, by that port.
    one_port: HashMap<NonZeroU16, Vec<usize>>,
}

impl Place {
    fn kinds(&mut self, port: Option<NonZeroU16>) -> &mut Vec<usize> {
        match port {
            None => &mut self.any_port,
            Some(port) => self.one_port.entry(port).or_default(),
        }
    }

    /// Groups of kinds that may lead to one port of the address.
    fn groups(self) -> Vec<Vec<usize>> {
        let Self { mut any_port, one_port } = self;
        if any_port.is_empty() {
            return one_port.into_values().collect();
        }
        any_port.extend(one_port.into_values().flatten());
        vec![any_port]
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

    /// The remarks without the advice, which is the last line.
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
    fn those_that_share_a_vip_are_one() {
        let relationships = [
            "a = [{ service = \"one\" }, { service = \"one\" }]",
            "b = { service = \"one\", vip = \"VIP\" }",
        ];
        let vip = vipnat_core::table::vip_of("a").to_string();
        let relationships = relationships.map(|relationship| relationship.replace("VIP", &vip));
        let relationships = relationships.each_ref().map(String::as_str);
        assert!(said(&[ONE], &relationships).is_empty());
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
