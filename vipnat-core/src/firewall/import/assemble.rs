//! Makes relationships and services of the rules at which packets can end.

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

/// The result of an import.
#[derive(Debug, Default)]
pub struct Import {
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// The relationships of the app, by name, each with one of the services.
    pub relationships: ByName<Relationship>,
    /// Rules that a table can't express. They are left out.
    pub unsupported: Vec<Remark>,
    /// Rules that are imported with a difference, or should be kept beside vipnat.
    pub notes: Vec<Remark>,
}

/// Imports the output of `iptables-save`: DNAT for VIPs from the OUTPUT chain of the nat table, and VIPs that
/// the filter table rejects.
pub fn import(text: &str) -> Import {
    let saved = Saved::read(text);
    let Found { leaves, unsupported, notes } = walk::walk(&saved, "nat");
    let mut import = Import { unsupported, notes, ..Import::default() };
    import.unsupported.extend_from_slice(&saved.bad);

    let mut vips: BTreeMap<Ipv4Addr, Vec<Leaf<'_>>> = BTreeMap::new();
    for leaf in leaves {
        vips.entry(leaf.vip).or_default().push(leaf);
    }
    // Translated packets reach the filter table with the address of a backend.
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
        // Comments give the place in the list. Older versions did not write it; then the rules are in the
        // order of the list, unless endpoints share VIPs.
        endpoints.sort_by_key(|endpoint| (endpoint.place, endpoint.line));
        for Endpoint { relationship, .. } in endpoints {
            import.relationships.push(&name, relationship);
        }
    }
    import.unsupported.sort_by_key(|remark| remark.line);
    import.notes.sort_by_key(|remark| remark.line);
    import
}

/// Endpoints, by the name of their relationship.
type Relationships = BTreeMap<String, Vec<Endpoint>>;

/// One endpoint.
struct Endpoint {
    /// Its place in the list of its relationship, if a comment has it.
    place: usize,
    /// The line of its first rule.
    line: usize,
    /// Whether its name was made from the VIP.
    invented: bool,
    relationship: Relationship,
}

/// The rules of a VIP for one protocol, or for both.
struct Group<'a> {
    protocol: Option<Protocol>,
    leaves: Vec<&'a Leaf<'a>>,
}

impl Import {
    /// Imports all rules for a VIP, which must make one relationship.
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

    /// Adds a service, with the name from a comment of vipnat, or else one made from the VIP. Relationships
    /// with the same name and service share it.
    fn service(&mut self, vip: Ipv4Addr, service: Service, name: Option<String>) -> String {
        let same = |other: &Service| *other == service;
        let name = name
            .filter(|name| self.services.get(name).is_none_or(same))
            .unwrap_or_else(|| invented(vip, &self.services));
        self.services.insert(name.clone(), service);
        name
    }
}

/// An unused name, made from a VIP.
fn invented<T>(vip: Ipv4Addr, taken: &BTreeMap<String, T>) -> String {
    let [_, _, a, b] = vip.octets();
    let mut name = format!("vip-{a}-{b}");
    while taken.contains_key(&name) {
        name.push('+');
    }
    name
}

/// The rules for a port, by protocol. TCP and UDP are one group if their rules are the same.
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

/// The rules up to the first that takes all the rest. Of several rules behind one statistic, packets only
/// reach the first.
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

/// The service that a group of rules makes, and remarks about it.
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
