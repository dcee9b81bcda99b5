//! Rules for `nft -f`.
//!
//! A map finds the chain of a VIP at once, however many there are, for TCP and UDP the same. A number
//! generator there chooses the backend, so both count the same turns.

use super::{Entry, Protocols};
use crate::table::{App, Backend, Select, Service, Table};

/// The rules of an app of `table` as input of `nft -f`: a table of their own, replaced as a whole.
///
/// # Panics
///
/// If the app is not of this table.
pub fn nft(table: &Table, app: &App, protocols: Protocols) -> String {
    let entries = Entry::all(table, app, protocols);
    let mut chains = Chains::default();
    if protocols == Protocols::AllOthers {
        // Any NAT rule turns connection tracking on.
        for hook in ["prerouting", "output"] {
            let hook_line = format!("type filter hook {hook} priority -300; policy accept;");
            let rules = [hook_line, "meta l4proto { tcp, udp } notrack".to_owned()];
            chains.add(&format!("untracked-{hook}"), rules);
        }
    }
    let (refused, served): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.service.backends.is_empty());
    for entry in &served {
        chains.backends(entry, protocols);
    }
    let mut output = vec!["type nat hook output priority -100; policy accept;".to_owned()];
    output.extend(dispatch(&served, protocols));
    chains.add("output", output);
    if !refused.is_empty() {
        let mut output = vec!["type filter hook output priority 0; policy accept;".to_owned()];
        output.extend(refused.iter().map(|entry| {
            let (vip, which, comment) = (entry.vip(), which(entry, protocols), comment(entry));
            format!("ip daddr {vip} {which} reject with icmp type host-unreachable{comment}")
        }));
        chains.add("refused", output);
    }
    format!("add table ip vipnat\ndelete table ip vipnat\ntable ip vipnat {{\n{}}}\n", chains.0)
}

/// The rules that lead to the chains of VIPs.
fn dispatch(served: &[&Entry<'_>], protocols: Protocols) -> Vec<String> {
    let lead =
        |entry: &Entry<'_>, more: &str| format!("{}{more} : goto {}", entry.vip(), chain(entry));
    let rule = |key: &str, elements: Vec<String>| {
        (!elements.is_empty()).then(|| format!("{key} vmap {}", list(elements)))
    };
    let rules = match protocols {
        Protocols::AllOthers => {
            let vips = served.iter().map(|entry| lead(entry, "")).collect();
            vec![rule("meta l4proto != { tcp, udp } ip daddr", vips)]
        }
        Protocols::TcpAndUdp => {
            let (mut any_port, mut one_port) = (Vec::new(), Vec::new());
            for entry in served {
                for protocol in entry.protocols() {
                    match entry.relationship.port {
                        None => any_port.push(lead(entry, &format!(" . {protocol}"))),
                        Some(port) => {
                            one_port.push(lead(entry, &format!(" . {protocol} . {port}")));
                        }
                    }
                }
            }
            vec![
                rule("ip daddr . meta l4proto", any_port),
                rule("ip daddr . meta l4proto . th dport", one_port),
            ]
        }
    };
    rules.into_iter().flatten().collect()
}

/// Chains, as text.
#[derive(Default)]
struct Chains(String);

impl Chains {
    fn add(&mut self, name: &str, rules: impl IntoIterator<Item = String>) {
        self.0 += &format!("  chain {name} {{\n");
        for rule in rules {
            self.0 += &format!("    {rule}\n");
        }
        self.0 += "  }\n";
    }

    /// The chain of a VIP that has backends.
    fn backends(&mut self, entry: &Entry<'_>, protocols: Protocols) {
        let (service, chain) = (entry.service, chain(entry));
        let dnat = |backend: &Backend| match (protocols, backend.port) {
            (Protocols::TcpAndUdp, Some(port)) => {
                // nft wants to be told that there are ports.
                format!("{} dnat to {}:{port}", transport(entry), backend.ip)
            }
            _ => format!("dnat to {}", backend.ip),
        };
        let ports = service.backends.iter().any(|backend| backend.port.is_some());
        let action = match service.backends.as_slice() {
            [backend] => dnat(backend),
            backends if ports && protocols == Protocols::TcpAndUdp => {
                // The elements of a map are all with a port or all without, so here are chains.
                for (i, backend) in backends.iter().enumerate() {
                    self.add(&format!("{chain}-{}", i + 1), [dnat(backend)]);
                }
                choose(service, "vmap", |i| format!("goto {chain}-{}", i + 1))
            }
            backends => {
                format!("dnat to {}", choose(service, "map", |i| backends[i].ip.to_string()))
            }
        };
        self.add(&chain, [format!("{action}{}", comment(entry))]);
    }
}

/// The chain of a VIP. Names begin with a letter.
fn chain(entry: &Entry<'_>) -> String {
    format!("vip-{}", entry.vip())
}

/// What packets for the VIP of an entry are meant.
fn which(entry: &Entry<'_>, protocols: Protocols) -> String {
    if protocols == Protocols::AllOthers {
        return "meta l4proto != { tcp, udp }".to_owned();
    }
    let port = entry.relationship.port.map_or(String::new(), |port| format!(" th dport {port}"));
    format!("{}{port}", transport(entry))
}

/// The protocols of an entry.
fn transport(entry: &Entry<'_>) -> String {
    match entry.protocols() {
        [protocol] => format!("meta l4proto {protocol}"),
        both => format!("meta l4proto {{ {} }}", both.join(", ")),
    }
}

/// Looks a number up that says whose turn it is.
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

/// The names of an entry. nft has no way to write a quotation mark.
fn comment(entry: &Entry<'_>) -> String {
    format!(" comment \"{}\"", entry.names().replace('"', "'"))
}
