//! The difference of two tables: what an agent has to look at when the table changes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::model::{App, ByName, Relationship, Service, Table};

/// The services, apps and VIPs in which two tables differ.
///
/// It has what the kernel and the names of VIPs follow from. Values that only applications read
/// (`endpoint`, `instance-ips`) are no part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The services that are new, gone or changed.
    pub services: BTreeSet<String>,
    /// The apps that are new, gone or changed.
    pub apps: BTreeMap<String, AppDifference>,
    /// Those of the services whose policy for connections of removed backends differs.
    pub(super) policies: BTreeSet<String>,
}

/// The difference of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppDifference {
    /// Whether both tables have the app.
    pub kind: DifferenceKind,
    /// Whether the key `cgroup` differs. For a new or removed app: whether it has the key.
    pub cgroup: bool,
    /// The VIPs whose relationships differ, in the old table or in the new one.
    pub vips: BTreeSet<Ipv4Addr>,
    /// The VIPs of the old relationships that differ, by their services.
    pub(super) left: BTreeMap<Arc<str>, BTreeSet<Ipv4Addr>>,
}

/// Which of the two tables have an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the new one.
    New,
    /// Only the old one.
    Removed,
    /// Both.
    Changed,
}

impl Difference {
    /// The difference of two tables. It takes one comparison of all relationships.
    pub fn between(old: &Table, new: &Table) -> Self {
        let mut difference = Self::default();
        for (name, old, new) in pairs(&old.services, &new.services) {
            difference.add_service(name, old, new);
        }
        for (name, old, new) in pairs(&old.apps, &new.apps) {
            difference.add_app(name, old, new);
        }
        difference
    }

    /// Whether the tables do not differ.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.apps.is_empty()
    }

    /// Whether apps come or go, or get other cgroups.
    pub fn moves_apps(&self) -> bool {
        self.apps.values().any(AppDifference::moves)
    }

    /// Adds a service, unless both are the same.
    pub(super) fn add_service(&mut self, name: &str, old: Option<&Service>, new: Option<&Service>) {
        if old == new {
            return;
        }
        self.services.insert(name.to_owned());
        let policy = |service: &Service| service.on_backend_removed;
        if old.map(policy) != new.map(policy) {
            self.policies.insert(name.to_owned());
        }
    }

    /// Adds an app, unless both are the same.
    pub(super) fn add_app(&mut self, name: &str, old: Option<&App>, new: Option<&App>) {
        let kind = match (old, new) {
            (None, None) => return,
            (None, Some(_)) => DifferenceKind::New,
            (Some(_), None) => DifferenceKind::Removed,
            (Some(_), Some(_)) => DifferenceKind::Changed,
        };
        let cgroup =
            old.and_then(|app| app.cgroup.as_ref()) != new.and_then(|app| app.cgroup.as_ref());
        let mut app = AppDifference { kind, cgroup, vips: BTreeSet::new(), left: BTreeMap::new() };
        let none = ByName::default();
        let before = old.map_or(&none, |app| &app.relationships);
        let after = new.map_or(&none, |app| &app.relationships);
        app.compare(before, after);
        if kind != DifferenceKind::Changed || cgroup || !app.vips.is_empty() {
            self.apps.insert(name.to_owned(), app);
        }
    }
}

impl AppDifference {
    /// Whether the app comes or goes, or gets other cgroups.
    pub fn moves(&self) -> bool {
        self.cgroup || self.kind != DifferenceKind::Changed
    }

    /// Adds the VIPs whose relationships differ.
    fn compare(&mut self, old: &ByName<Relationship>, new: &ByName<Relationship>) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let name = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some((name, _)), None) | (None, Some((name, _))) => *name,
                (Some((one, of_one)), Some((other, of_other))) => match one.cmp(other) {
                    // The usual case, without any allocation.
                    Ordering::Equal if same(of_one, of_other) => {
                        old.next();
                        new.next();
                        continue;
                    }
                    Ordering::Less | Ordering::Equal => *one,
                    Ordering::Greater => *other,
                },
            };
            // The endpoints of this relationship that are left. Those before them were the same.
            let of_name = |(other, _): &(&str, _)| *other == name;
            let before = by_vip(std::iter::from_fn(|| old.next_if(of_name)));
            let after = by_vip(std::iter::from_fn(|| new.next_if(of_name)));
            self.compare_endpoints(&before, &after);
        }
    }

    fn compare_endpoints(&mut self, old: &Endpoints<'_>, new: &Endpoints<'_>) {
        for (vip, before, after) in pairs(old, new) {
            let (before, after) =
                (before.map_or(&[][..], |all| all), after.map_or(&[][..], |all| all));
            if before.len() == after.len()
                && before.iter().zip(after).all(|(one, other)| same(one, other))
            {
                continue;
            }
            self.vips.insert(*vip);
            for relationship in before {
                let service = Arc::clone(&relationship.service);
                self.left.entry(service).or_default().insert(*vip);
            }
        }
    }
}

/// The endpoints of one relationship by VIP.
type Endpoints<'a> = BTreeMap<Ipv4Addr, Vec<&'a Relationship>>;

fn by_vip<'a>(all: impl Iterator<Item = (&'a str, &'a Relationship)>) -> Endpoints<'a> {
    let mut endpoints = Endpoints::new();
    for (_, relationship) in all {
        endpoints.entry(relationship.vip).or_default().push(relationship);
    }
    endpoints
}

/// Whether both lead to the same VIP, service, port and protocol.
fn same(one: &Relationship, other: &Relationship) -> bool {
    let Relationship { service, vip, port, protocol, instance_ips: _, endpoint: _ } = one;
    *vip == other.vip
        && *port == other.port
        && *protocol == other.protocol
        && *service == other.service
}

/// The objects of two maps side by side, in the order of their keys.
pub(super) fn pairs<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let (key, _) = before.or(after)?;
        Some((key, before.map(|(_, value)| value), after.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests;
