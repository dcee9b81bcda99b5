//! Puts relationships and services together from the rules that packets can end at.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    num::NonZeroU16,
    sync::Arc,
};

use vipnat_common::Protocol;

use super::{
    conditions::Protocols,
    remark::Remark,
    save::{Saved, Statistic},
    shares::{self, Turn},
    walk::{self, End, Found, Leaf},
};
use crate::{
    firewall::entry::Name,
    table::{ByName, OnBackendRemoved, Relationship, Select, Service, UdpPinning, check_name},
};

/// What was found in rules.
#[derive(Debug, Default)]
pub struct Import {
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// The relationships of the app, by name, each with one of the services.
    pub relationships: ByName<Relationship>,
    /// Rules that a table can't say, which were left out.
    pub unsupported: Vec<Remark>,
    /// Rules that were imported, but not to the letter.
    pub notes: Vec<Remark>,
}

/// Finds the relationships in the output of `iptables-save`: DNAT for VIPs in the OUTPUT chain of the
/// nat table, and what the filter table refuses.
pub fn import(text: &str) -> Import {
    let saved = Saved::read(text);
    let Found { leaves, unsupported, notes } = walk::walk(&saved, "nat");
    let mut import = Import { unsupported, notes, ..Import::default() };
    import.unsupported.extend_from_slice(&saved.bad);

    let mut vips: BTreeMap<Ipv4Addr, Vec<Leaf<'_>>> = BTreeMap::new();
    for leaf in leaves {
        vips.entry(leaf.vip).or_default().push(leaf);
    }
    // What is translated comes to the filter table with another address.
    let translated: HashSet<_> = vips.keys().copied().collect();
    for leaf in walk::walk(&saved, "filter").leaves {
        if leaf.end == End::Refused && !translated.contains(&leaf.vip) {
            vips.entry(leaf.vip).or_default().push(leaf);
        }
    }
    let mut named = Relationships::new();
    for (vip, leaves) in vips {
        import.vip(vip, &leaves, &mut named);
    }
    for (name, mut endpoints) in named {
        // Comments tell the place in the list, but for those of old versions, where the order of the rules
        // is that of the list unless endpoints share VIPs with others.
        endpoints.sort_by_key(|endpoint| (endpoint.place, endpoint.line));
        for Endpoint { relationship, .. } in endpoints {
            import.relationships.push(&name, relationship);
        }
    }
    import.unsupported.sort_by_key(|remark| remark.line);
    import.notes.sort_by_key(|remark| remark.line);
    import
}

/// Endpoints by the names of their relationships.
type Relationships = BTreeMap<String, Vec<Endpoint>>;

/// One endpoint.
struct Endpoint {
    /// Its place in the list of its relationship, if a comment tells.
    place: usize,
    /// The line of its first rule.
    line: usize,
    /// Whether its name is one that the VIP gave.
    invented: bool,
    relationship: Relationship,
}

/// Rules for one protocol, or for both.
struct Group<'a> {
    protocol: Option<Protocol>,
    leaves: Vec<&'a Leaf<'a>>,
}

impl Import {
    /// Takes in all rules for a VIP, which must amount to one relationship.
    fn vip(&mut self, vip: Ipv4Addr, all: &[Leaf<'_>], named: &mut Relationships) {
        let Some(port) = all.first().map(|leaf| leaf.conditions.port) else {
            return;
        };
        let mut groups = groups(all, port).into_iter();
        let Some(Group { protocol, leaves }) = groups.next() else {
            return;
        };
        let mut told: HashSet<_> = leaves.iter().map(|leaf| leaf.rule.line).collect();
        let other_ports = all.iter().filter(|leaf| leaf.conditions.port != port);
        for leaf in groups.flat_map(|group| group.leaves).chain(other_ports) {
            if told.insert(leaf.rule.line) {
                let reason = format!("another port, protocol or backend for VIP {vip}");
                let help = "an app has one relationship for a VIP; give the other one its own VIP";
                self.unsupported.push(leaf.remark(reason, help));
            }
        }
        let (service, remarks) = match service(&leaves) {
            Ok(service) => service,
            Err(reason) => {
                let help =
                    "write it as n rules: every n packet 0, every n - 1 packet 0, …, the rest";
                let remarks = leaves.iter().map(|leaf| leaf.remark(reason.clone(), help));
                let mut told = HashSet::new();
                self.unsupported.extend(remarks.filter(|remark| told.insert(remark.line)));
                return;
            }
        };
        let first = leaves[0];
        self.notes.extend(remarks.into_iter().map(|remark| first.remark(remark, "")));
        let port = port.and_then(NonZeroU16::new);
        let good = |name: &Name| check_name(&name.name).and(check_name(&name.service)).is_ok();
        let names = &first.conditions.names;
        let known = if names.iter().all(good) { names.as_slice() } else { &[] };
        let mut names: Vec<_> = known
            .iter()
            .cloned()
            .map(|Name { name, place, service }| (Some(name), place, Some(service)))
            .collect();
        if names.is_empty() {
            names.push((None, 0, None));
        }
        for (name, place, service_name) in names {
            let is_other = |name: &String| named.get(name).is_none_or(|all| !all[0].invented);
            let known = name.filter(is_other);
            let is_invented = known.is_none();
            let name = known.unwrap_or_else(|| invented(vip, named));
            let service = self.service(vip, service.clone(), service_name).into();
            let endpoint = Arc::default();
            let relationship =
                Relationship { service, vip, port, protocol, instance_ips: true, endpoint };
            let (line, invented) = (first.rule.line, is_invented);
            named.entry(name).or_default().push(Endpoint { place, line, invented, relationship });
        }
    }

    /// Adds a service, under the name that vipnat's comments give or else under one that the VIP gives.
    /// Relationships share it if it is the same for both.
    fn service(&mut self, vip: Ipv4Addr, service: Service, name: Option<String>) -> String {
        let same = |other: &Service| *other == service;
        let name = name
            .filter(|name| self.services.get(name).is_none_or(same))
            .unwrap_or_else(|| invented(vip, &self.services));
        self.services.insert(name.clone(), service);
        name
    }
}

/// A name that a VIP gives and nothing else has.
fn invented<T>(vip: Ipv4Addr, taken: &BTreeMap<String, T>) -> String {
    let [_, _, a, b] = vip.octets();
    let mut name = format!("vip-{a}-{b}");
    while taken.contains_key(&name) {
        name.push('+');
    }
    name
}

/// The rules for a port, by protocol. TCP and UDP are one group if they go the same way.
fn groups<'a>(leaves: &'a [Leaf<'a>], port: Option<u16>) -> Vec<Group<'a>> {
    let of = |has: fn(Protocols) -> bool| {
        let leaves = leaves.iter().filter(|leaf| leaf.conditions.port == port);
        reachable(leaves.filter(|leaf| has(leaf.conditions.protocols)))
    };
    let tcp = of(|protocols| protocols.tcp);
    let udp = of(|protocols| protocols.udp);
    if tcp.iter().map(|leaf| turn(leaf)).eq(udp.iter().map(|leaf| turn(leaf))) {
        return vec![Group { protocol: None, leaves: tcp }];
    }
    [(Protocol::Tcp, tcp), (Protocol::Udp, udp)]
        .into_iter()
        .filter(|(_, leaves)| !leaves.is_empty())
        .map(|(protocol, leaves)| Group { protocol: Some(protocol), leaves })
        .collect()
}

/// Rules up to the first one that takes all that is left. Of those behind one counting rule, only the
/// first is ever reached.
fn reachable<'a>(leaves: impl Iterator<Item = &'a Leaf<'a>>) -> Vec<&'a Leaf<'a>> {
    let mut counted = HashSet::new();
    let mut reachable = Vec::new();
    for leaf in leaves {
        match leaf.conditions.statistic {
            Some((_, line)) => {
                if counted.insert(line) {
                    reachable.push(leaf);
                }
            }
            None => {
                reachable.push(leaf);
                break;
            }
        }
    }
    reachable
}

fn turn(leaf: &Leaf<'_>) -> (Option<Statistic>, End) {
    (leaf.conditions.statistic.map(|(statistic, _)| statistic), leaf.end)
}

/// The service that a group of rules is.
fn service(leaves: &[&Leaf<'_>]) -> Result<(Service, Vec<String>), String> {
    let turns = leaves.iter().filter_map(|leaf| match leaf.end {
        End::Refused => None,
        End::Backend(ip, port) => Some(Turn {
            statistic: leaf.conditions.statistic.map(|(statistic, _)| statistic),
            backend: (ip, port),
            number: leaf.conditions.number,
        }),
    });
    let turns: Vec<_> = turns.collect();
    if turns.is_empty() {
        let (select, udp_pinning) = (Select::default(), UdpPinning::default());
        let on_backend_removed = OnBackendRemoved::default();
        let service = Service { backends: Vec::new(), select, udp_pinning, on_backend_removed };
        return Ok((service, Vec::new()));
    }
    shares::service(&turns)
}
