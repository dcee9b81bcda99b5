//! Exports rules for `nft -f`.
//!
//! A map finds the chain of a VIP in constant time. A number generator in that chain chooses the backend, so
//! that TCP and UDP share the turns.

use super::{
    beside::{self, VIPS},
    entry::{Entry, MAX_COMMENT, Packets},
};
use crate::table::{App, Backend, Select, Service, Table};

/// The rules of an app of `table` as input of `nft -f`: a table of their own, replaced as a whole.
///
/// # Panics
///
/// If the app is not of this table.
pub fn nft(table: &Table, app: &App, packets: Packets) -> String {
    let entries = Entry::all(table, app);
    let mut chains = Chains { packets, text: String::new() };
    if packets == Packets::Unreached {
        chains.untracked();
        chains.source_ports();
    }
    let (refused, served): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.service.backends.is_empty());
    for entry in &served {
        chains.backends(entry);
    }
    let mut output = vec!["type nat hook output priority -100; policy accept;".to_owned()];
    output.extend(dispatch(&served, packets));
    chains.add("output", output);
    if !refused.is_empty() {
        let mut output = vec!["type filter hook output priority 0; policy accept;".to_owned()];
        output.extend(refused.iter().map(|entry| {
            let (vip, which, comment) = (entry.vip(), which(entry, packets), comment(entry));
            format!("ip daddr {vip} {which}reject with icmp type host-unreachable{comment}")
        }));
        chains.add("refused", output);
    }
    let chains = chains.text;
    format!("add table ip vipnat\ndelete table ip vipnat\ntable ip vipnat {{\n{chains}}}\n")
}

/// The rules that send packets to the chains of VIPs.
fn dispatch(served: &[&Entry<'_>], packets: Packets) -> Vec<String> {
    let lead =
        |entry: &Entry<'_>, more: &str| format!("{}{more} : goto {}", entry.vip(), chain(entry));
    let rule = |key: &str, elements: Vec<String>| {
        (!elements.is_empty()).then(|| format!("{key} vmap {}", list(elements)))
    };
    let (mut all, mut any_port, mut one_port) = (Vec::new(), Vec::new(), Vec::new());
    for entry in served {
        if entry.is_for_all_protocols(packets) {
            all.push(lead(entry, ""));
            continue;
        }
        for protocol in entry.protocols() {
            match entry.relationship.port {
                None => any_port.push(lead(entry, &format!(" . {protocol}"))),
                Some(port) => one_port.push(lead(entry, &format!(" . {protocol} . {port}"))),
            }
        }
    }
    let rules = [
        rule("ip daddr", all),
        rule("ip daddr . meta l4proto", any_port),
        rule("ip daddr . meta l4proto . th dport", one_port),
    ];
    rules.into_iter().flatten().collect()
}

/// Matches TCP and UDP.
const WITH_PORTS: &str = "meta l4proto { tcp, udp }";

/// Chains under construction.
struct Chains {
    packets: Packets,
    text: String,
}

impl Chains {
    fn add(&mut self, name: &str, rules: impl IntoIterator<Item = String>) {
        self.text += &format!("  chain {name} {{\n");
        for rule in rules {
            self.text += &format!("    {rule}\n");
        }
        self.text += "  }\n";
    }

    /// Exempts TCP and UDP from connection tracking, which any NAT rule turns on. Packets to 169.254.0.0/16
    /// and possible replies stay tracked.
    ///
    /// These rules don't depend on the table. So a translated connection stays so when another table is
    /// loaded.
    fn untracked(&mut self) {
        let hook = |name| format!("type filter hook {name} priority -300; policy accept;");
        // Loopback traffic is left alone, since others may use NAT for it.
        let mut answers =
            vec![hook("prerouting"), "iif lo return".to_owned(), format!("ip saddr {VIPS} return")];
        answers.extend(
            beside::OF_OTHERS
                .map(|ports| format!("{WITH_PORTS} th dport {} notrack return", ports.with('-'))),
        );
        self.add("untracked-prerouting", answers);
        let output = [
            hook("output"),
            "oif lo return".to_owned(),
            format!("ip daddr {VIPS} return"),
            format!("{WITH_PORTS} notrack"),
        ];
        self.add("untracked-output", output);
    }

    /// Changes the source ports of translated connections, so that their replies are recognised.
    fn source_ports(&mut self) {
        let (privileged, low, high) =
            (beside::PRIVILEGED.with('-'), beside::LOW.with('-'), beside::HIGH.with('-'));
        let choose = [
            format!("{WITH_PORTS} th sport {privileged} snat to :{low}"),
            format!("{WITH_PORTS} snat to :{high}"),
        ];
        self.add("source-ports", choose);
        let hook = "type nat hook postrouting priority 100; policy accept;".to_owned();
        let translated = format!("ct status dnat ct original ip daddr {VIPS} goto source-ports");
        self.add("postrouting", [hook, translated]);
    }

    /// The chain of a VIP that has backends.
    fn backends(&mut self, entry: &Entry<'_>) {
        let (service, chain) = (entry.service, chain(entry));
        let all_protocols = entry.is_for_all_protocols(self.packets);
        let dnat = |backend: &Backend| match backend.port {
            Some(port) => {
                // nft requires a match on the protocol before it accepts a port.
                let mut rules = vec![format!("{} dnat to {}:{port}", transport(entry), backend.ip)];
                rules.extend(all_protocols.then(|| format!("dnat to {}", backend.ip)));
                rules
            }
            None => vec![format!("dnat to {}", backend.ip)],
        };
        let ports = service.backends.iter().any(|backend| backend.port.is_some());
        let actions = match service.backends.as_slice() {
            [backend] => dnat(backend),
            backends if ports => {
                // In one map, all elements have a port or none has, so chains take its place.
                for (i, backend) in backends.iter().enumerate() {
                    self.add(&format!("{chain}-{}", i + 1), dnat(backend));
                }
                vec![choose(service, "vmap", |i| format!("goto {chain}-{}", i + 1))]
            }
            backends => {
                vec![format!("dnat to {}", choose(service, "map", |i| backends[i].ip.to_string()))]
            }
        };
        self.add(&chain, actions.into_iter().map(|action| action + &comment(entry)));
    }
}

/// The name of the chain of a VIP. It must begin with a letter.
fn chain(entry: &Entry<'_>) -> String {
    format!("vip-{}", entry.vip())
}

/// The match for the protocols and the port of an entry, with a space behind it. Empty for all packets.
fn which(entry: &Entry<'_>, packets: Packets) -> String {
    if entry.is_for_all_protocols(packets) {
        return String::new();
    }
    let port = entry.relationship.port.map_or(String::new(), |port| format!("th dport {port} "));
    format!("{} {port}", transport(entry))
}

/// The match for the protocols of an entry.
fn transport(entry: &Entry<'_>) -> String {
    match entry.protocols() {
        [protocol] => format!("meta l4proto {protocol}"),
        _ => WITH_PORTS.to_owned(),
    }
}

/// The expression that draws a number and maps it to a backend.
fn choose(service: &Service, map: &str, backend: impl Fn(usize) -> String) -> String {
    let round = service.round();
    match service.select {
        Select::RoundRobin => {
            let turns =
                service.order().enumerate().map(|(i, turn)| format!("{i} : {}", backend(turn)));
            format!("numgen inc mod {round} {map} {}", list(turns))
        }
        Select::Random => {
            let mut next = 0;
            let ranges = service.weights().enumerate().map(|(i, weight)| {
                let first = next;
                next += weight;
                let range =
                    if weight == 1 { first.to_string() } else { format!("{first}-{}", next - 1) };
                format!("{range} : {}", backend(i))
            });
            format!("numgen random mod {round} {map} {}", list(ranges))
        }
    }
}

fn list(elements: impl IntoIterator<Item = String>) -> String {
    let elements: Vec<_> = elements.into_iter().collect();
    format!("{{ {} }}", elements.join(", "))
}

/// The comment of an entry, cut to the length that nft accepts. nft has no way to write a quotation mark.
fn comment(entry: &Entry<'_>) -> String {
    let names = entry.names();
    let names = &names[..names.floor_char_boundary(MAX_COMMENT)];
    format!(" comment \"{}\"", names.replace('"', "'"))
}
