//! Rules for `iptables-restore`.
//!
//! A chain for each VIP chooses the backend, so TCP and UDP count the same turns. A backend with a
//! port of its own has another chain, since `--to-destination IP:PORT` needs a protocol.

use std::fmt;

use super::{Entry, Protocols};
use crate::table::{App, Backend, Select, Service, Table};

/// The chain that OUTPUT leads to. The names of all others begin with it, so that one can tell
/// vipnat's rules from others.
pub(crate) const CHAIN: &str = "VIPNAT";

/// What comments of vipnat begin with.
pub(crate) const COMMENT: &str = "vipnat ";

/// The rules of an app of `table` as input of `iptables-restore`.
///
/// # Panics
///
/// If the app is not of this table.
pub fn iptables(table: &Table, app: &App, protocols: Protocols) -> String {
    let entries = Entry::all(table, app, protocols);
    let mut text = String::new();
    if protocols == Protocols::AllOthers {
        text += &untracked();
    }
    text += &nat(&entries, protocols).to_string();
    text += &filter(&entries, protocols).to_string();
    text
}

/// Keeps TCP and UDP out of connection tracking, which any rule of the nat table turns on.
fn untracked() -> String {
    let mut raw = Rules::new("raw", &["PREROUTING", "OUTPUT"]);
    for protocol in ["tcp", "udp"] {
        raw.rule(CHAIN, &format!("-p {protocol} -j CT --notrack"));
    }
    raw.to_string()
}

/// Where connections go.
fn nat(entries: &[Entry<'_>], protocols: Protocols) -> Rules {
    let mut nat = Rules::new("nat", &["OUTPUT"]);
    nat.skip_if(protocols);
    for entry in entries.iter().filter(|entry| !entry.service.backends.is_empty()) {
        let chain = format!("{CHAIN}-{}", entry.vip());
        nat.chain(&chain);
        nat.lead_to(&format!("-j {chain}"), entry, protocols);
        nat.select(&chain, entry, protocols);
    }
    nat
}

/// What becomes of connections that have no backend. Only the filter table can reject. It is there
/// also when it has nothing to say, so that what it said before goes.
fn filter(entries: &[Entry<'_>], protocols: Protocols) -> Rules {
    let refused: Vec<_> =
        entries.iter().filter(|entry| entry.service.backends.is_empty()).collect();
    if refused.is_empty() {
        return Rules::new("filter", &[]);
    }
    let mut filter = Rules::new("filter", &["OUTPUT"]);
    filter.skip_if(protocols);
    for entry in refused {
        let target = "-j REJECT --reject-with icmp-host-unreachable";
        filter.lead_to(target, entry, protocols);
    }
    filter
}

/// A table of rules under construction.
struct Rules {
    table: &'static str,
    /// Declaring a chain empties it.
    chains: Vec<String>,
    /// The rules, a line each.
    rules: String,
}

impl Rules {
    /// A table whose `hooks` lead to our own chain.
    fn new(table: &'static str, hooks: &[&str]) -> Self {
        let mut rules = Self { table, chains: vec![CHAIN.to_owned()], rules: String::new() };
        for hook in hooks {
            rules.rule(hook, &format!("-j {CHAIN}"));
        }
        rules
    }

    fn chain(&mut self, name: &str) {
        self.chains.push(name.to_owned());
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        self.rules += &format!("-A {chain} {rule}\n");
    }

    /// A rule has no way to say "neither TCP nor UDP".
    fn skip_if(&mut self, protocols: Protocols) {
        if protocols == Protocols::AllOthers {
            for protocol in ["tcp", "udp"] {
                self.rule(CHAIN, &format!("-p {protocol} -j RETURN"));
            }
        }
    }

    /// Leads what is for the VIP to `target`.
    fn lead_to(&mut self, target: &str, entry: &Entry<'_>, protocols: Protocols) {
        let vip = format!("-d {}/32", entry.vip());
        let comment = quoted(&format!("{COMMENT}{}", entry.names()));
        let comment = format!("-m comment --comment {comment}");
        match protocols {
            Protocols::AllOthers => self.rule(CHAIN, &format!("{vip} {comment} {target}")),
            Protocols::TcpAndUdp => {
                let port = |protocol| match entry.relationship.port {
                    Some(port) => format!(" -m {protocol} --dport {port}"),
                    None => String::new(),
                };
                for protocol in entry.protocols() {
                    let port = port(*protocol);
                    self.rule(CHAIN, &format!("{vip} -p {protocol}{port} {comment} {target}"));
                }
            }
        }
    }

    /// Chooses among the backends of an entry.
    fn select(&mut self, chain: &str, entry: &Entry<'_>, protocols: Protocols) {
        let service = entry.service;
        let of = service.backends.len();
        let targets: Vec<_> = (1..)
            .zip(&service.backends)
            .map(|(number, backend)| match (protocols, entry.protocols(), backend.port) {
                (Protocols::AllOthers, ..) | (_, _, None) => (String::new(), dnat(backend)),
                (_, [protocol], Some(port)) => {
                    (format!("-p {protocol} "), format!("{}:{port}", dnat(backend)))
                }
                (_, both, Some(port)) => {
                    let own = format!("{chain}-{number}");
                    self.chain(&own);
                    for protocol in both {
                        self.rule(&own, &format!("-p {protocol} {}:{port}", dnat(backend)));
                    }
                    (String::new(), format!("-j {own}"))
                }
            })
            .collect();
        for (turn, chance) in turns(service) {
            let (protocol, target) = &targets[turn];
            let comment = format!("-m comment --comment \"backend {} of {of}\"", turn + 1);
            self.rule(chain, &format!("{protocol}{chance}{comment} {target}"));
        }
    }
}

/// `-j DNAT` to a backend's address.
fn dnat(backend: &Backend) -> String {
    format!("-j DNAT --to-destination {}", backend.ip)
}

/// The rules that choose: the index of a backend, and what a packet that comes to the rule must meet.
///
/// A rule counts and sees only what the ones before it left, so the first of n takes one in n, the
/// second one in n - 1 of the others, and the last one all that is left. (n rules that each take one
/// in n, as one often sees, leave some connections to none of them.)
fn turns(service: &Service) -> Vec<(usize, String)> {
    match service.select {
        Select::RoundRobin => {
            let every = (1..=service.round()).rev();
            let chance = |every| match every {
                1 => String::new(),
                _ => format!("-m statistic --mode nth --every {every} --packet 0 "),
            };
            service.order().zip(every.map(chance)).collect()
        }
        Select::Random => {
            let weights: Vec<_> = service.weights().collect();
            let left = weights.iter().rev().scan(0, |left, weight| {
                *left += weight;
                Some(*left)
            });
            let mut left: Vec<_> = left.collect();
            left.reverse();
            let chance = |(weight, left): (&u64, u64)| match left - weight {
                0 => String::new(),
                _ => {
                    let probability = *weight as f64 / left as f64;
                    format!("-m statistic --mode random --probability {probability:.11} ")
                }
            };
            weights.iter().zip(left).map(chance).enumerate().collect()
        }
    }
}

/// A word as iptables-restore reads it. It takes a word for an option by its first character, so
/// what is quoted must not begin with a name.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#))
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, chains, rules } = self;
        writeln!(f, "*{table}")?;
        for chain in chains {
            writeln!(f, ":{chain} - [0:0]")?;
        }
        f.write_str(rules)?;
        writeln!(f, "COMMIT")
    }
}
