//! From `iptables-save` output to the relationships of an app.

mod conditions;
mod save;
mod shares;
mod walk;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::Ipv4Addr,
    num::NonZeroU16,
    sync::Arc,
};

use vipnat_common::Protocol;

use self::{
    conditions::Protocols,
    save::Saved,
    shares::Turn,
    walk::{End, Found, Leaf},
};
use crate::{
    table::{OnBackendRemoved, Relationship, Select, Service, UdpPinning, check_name},
    text::shown,
};

/// What was found in rules.
#[derive(Debug, Default)]
pub struct Import {
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// The relationships of the app, by name, each with one of the services.
    pub relationships: BTreeMap<String, Relationship>,
    /// Rules that a table can't say, which were left out.
    pub unsupported: Vec<Remark>,
    /// Rules that were imported, but not to the letter.
    pub notes: Vec<Remark>,
}

/// Something to say about a line. Displays as `LINE: TEXT`, and on lines of their own the reason and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    line: usize,
    text: String,
    reason: String,
    help: String,
}

impl Remark {
    fn new(line: usize, text: &str, reason: impl Into<String>, help: impl Into<String>) -> Self {
        let text = text.trim();
        let text = text[..text.floor_char_boundary(LONGEST)].to_owned();
        Self { line, text, reason: reason.into(), help: help.into() }
    }

    fn of(leaf: &Leaf<'_>, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(leaf.rule.line, leaf.rule.text, reason, help)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, text, reason, help } = self;
        write!(f, "{line}: {}\n    {}", shown(text), shown(reason))?;
        if help.is_empty() { Ok(()) } else { write!(f, "\n    {}", shown(help)) }
    }
}

/// How much of a line is repeated, in bytes.
const LONGEST: usize = 200;

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
    for (vip, leaves) in vips {
        import.vip(vip, &leaves);
    }
    import.unsupported.sort_by_key(|remark| remark.line);
    import.notes.sort_by_key(|remark| remark.line);
    import
}

/// Rules for one protocol, or for both.
struct Group<'a> {
    protocol: Option<Protocol>,
    leaves: Vec<&'a Leaf<'a>>,
}

impl Import {
    /// Takes in all rules for a VIP, which must amount to one relationship.
    fn vip(&mut self, vip: Ipv4Addr, all: &[Leaf<'_>]) {
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
                self.unsupported.push(Remark::of(leaf, reason, help));
            }
        }
        let (service, remarks) = match service(&leaves) {
            Ok(service) => service,
            Err(reason) => {
                let help =
                    "write it as n rules: every n packet 0, every n - 1 packet 0, …, the rest";
                let remarks = leaves.iter().map(|leaf| Remark::of(leaf, reason.clone(), help));
                let mut told = HashSet::new();
                self.unsupported.extend(remarks.filter(|remark| told.insert(remark.line)));
                return;
            }
        };
        let first = leaves[0];
        self.notes.extend(remarks.into_iter().map(|remark| Remark::of(first, remark, "")));
        let port = port.and_then(NonZeroU16::new);
        self.relationship(vip, port, protocol, service, first.conditions.names.as_ref());
    }

    /// Adds a relationship and its service, under the names that vipnat's comments give or else under
    /// one that the VIP gives.
    fn relationship(
        &mut self,
        vip: Ipv4Addr,
        port: Option<NonZeroU16>,
        protocol: Option<Protocol>,
        service: Service,
        names: Option<&(String, String)>,
    ) {
        let good =
            |(name, service): &&(String, String)| check_name(name).and(check_name(service)).is_ok();
        let (name, service_name) = names.filter(good).cloned().unzip();
        let name = name
            .filter(|name| !self.relationships.contains_key(name))
            .unwrap_or_else(|| invented(vip, &self.relationships));
        // Relationships share a service if it is the same for both.
        let same = |other: &Service| *other == service;
        let service_name = service_name
            .filter(|name| self.services.get(name).is_none_or(same))
            .unwrap_or_else(|| invented(vip, &self.services));
        self.services.insert(service_name.clone(), service);
        let service = service_name.into();
        let relationship = Relationship { service, vip, port, protocol, endpoint: Arc::default() };
        self.relationships.insert(name, relationship);
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

fn turn(leaf: &Leaf<'_>) -> (Option<save::Statistic>, End) {
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

#[cfg(test)]
mod tests;
