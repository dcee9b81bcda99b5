//! Rules for `iptables-restore`.
//!
//! A chain for each VIP chooses the backend, so TCP and UDP count the same turns. A backend with a
//! port of its own has another chain, since `--to-destination IP:PORT` needs a protocol.

use std::fmt;

use super::{
    beside::{self, VIPS},
    entry::{Entry, Packets},
};
use crate::table::{App, Backend, Select, Service, Table};

/// The chain that OUTPUT leads to where rules do the work of vipnat. The names of all others begin with it, so that one can tell
/// vipnat's rules from others.
pub(crate) const CHAIN: &str = "VIPNAT";

/// The same for rules beside vipnat, which are none of a table: vipnat has it already.
pub(crate) const BESIDE: &str = "VIPNAT-BESIDE";

/// What comments of vipnat begin with.
pub(crate) const COMMENT: &str = "vipnat ";

/// The rules of an app of `table` as input of `iptables-restore`.
///
/// # Panics
///
/// If the app is not of this table.
pub fn iptables(table: &Table, app: &App, packets: Packets) -> String {
    let entries = Entry::all(table, app);
    let mut text = String::new();
    if packets == Packets::Unreached {
        text += &untracked().to_string();
    }
    text += &nat(&entries, packets).to_string();
    text += &filter(&entries, packets).to_string();
    text
}

/// Keeps TCP and UDP out of connection tracking, which any rule of the nat table turns on, but for what
/// goes to 169.254.0.0/16 and what may be an answer to it. None of this depends on the table, so a
/// connection that was translated stays so when rules of another table take the place of these.
fn untracked() -> Rules {
    const UNTRACKED: &str = "VIPNAT-UNTRACKED";

    let mut raw = Rules::empty("raw");
    raw.chain(UNTRACKED);
    // What stays in the container has no rules of the way out, but maybe NAT of others. What is
    // untracked goes on with the next rule all the same, so it is sent to the end of a chain.
    for ports in beside::OF_OTHERS {
        for protocol in ["tcp", "udp"] {
            let to = format!("-p {protocol} -m {protocol} --dport {}", ports.with(':'));
            raw.rule("PREROUTING", &format!("! -s {VIPS} ! -i lo {to} -g {UNTRACKED}"));
        }
    }
    for protocol in ["tcp", "udp"] {
        raw.rule("OUTPUT", &format!("! -d {VIPS} ! -o lo -p {protocol} -g {UNTRACKED}"));
    }
    raw.rule(UNTRACKED, "-j CT --notrack");
    raw
}

/// Where connections go.
fn nat(entries: &[Entry<'_>], packets: Packets) -> Rules {
    let mut nat = Rules::new("nat", packets);
    if packets == Packets::Unreached {
        nat.change_source_ports();
    }
    for entry in entries.iter().filter(|entry| !entry.service.backends.is_empty()) {
        let chain = format!("{CHAIN}-{}", entry.vip());
        nat.chain(&chain);
        nat.lead_to(&format!("-j {chain}"), entry);
        nat.select(&chain, entry);
    }
    nat
}

/// What becomes of connections that have no backend. Only the filter table can reject. It is there
/// also when it has nothing to say, so that what it said before goes.
fn filter(entries: &[Entry<'_>], packets: Packets) -> Rules {
    let refused: Vec<_> =
        entries.iter().filter(|entry| entry.service.backends.is_empty()).collect();
    if refused.is_empty() {
        return Rules { chains: vec![dispatch(packets).to_owned()], ..Rules::empty("filter") };
    }
    let mut filter = Rules::new("filter", packets);
    for entry in refused {
        filter.lead_to("-j REJECT --reject-with icmp-host-unreachable", entry);
    }
    filter
}

/// The chain that OUTPUT leads to.
fn dispatch(packets: Packets) -> &'static str {
    match packets {
        Packets::TcpAndUdp => CHAIN,
        Packets::Unreached => BESIDE,
    }
}

/// A table of rules under construction.
struct Rules {
    table: &'static str,
    packets: Packets,
    /// Declaring a chain empties it.
    chains: Vec<String>,
    /// The rules, a line each.
    rules: String,
}

impl Rules {
    fn empty(table: &'static str) -> Self {
        Self { table, packets: Packets::Unreached, chains: Vec::new(), rules: String::new() }
    }

    /// A table whose OUTPUT leads to our own chain.
    fn new(table: &'static str, packets: Packets) -> Self {
        let chain = dispatch(packets);
        let mut rules = Self { packets, ..Self::empty(table) };
        rules.chain(chain);
        rules.rule("OUTPUT", &format!("-j {chain}"));
        rules
    }

    fn chain(&mut self, name: &str) {
        self.chains.push(name.to_owned());
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        self.rules += &format!("-A {chain} {rule}\n");
    }

    /// Gives connections that were translated the ports by which their answers are known.
    fn change_source_ports(&mut self) {
        const PORTS: &str = "VIPNAT-PORTS";

        self.chain(PORTS);
        let translated = format!("-m conntrack --ctstate DNAT --ctorigdst {VIPS}");
        self.rule("POSTROUTING", &format!("{translated} -j {PORTS}"));
        let (privileged, low, high) =
            (beside::PRIVILEGED.with(':'), beside::LOW.with('-'), beside::HIGH.with('-'));
        for protocol in ["tcp", "udp"] {
            let which = format!("-p {protocol} -m {protocol}");
            let to = "-j SNAT --to-source";
            self.rule(PORTS, &format!("{which} --sport {privileged} {to} :{low}"));
            self.rule(PORTS, &format!("-p {protocol} {to} :{high}"));
        }
    }

    /// Leads what is for the VIP to `target`.
    fn lead_to(&mut self, target: &str, entry: &Entry<'_>) {
        let chain = dispatch(self.packets);
        let vip = format!("-d {}/32", entry.vip());
        let comment = quoted(&format!("{COMMENT}{}", entry.names()));
        let comment = format!("-m comment --comment {comment}");
        if entry.is_for_all_protocols(self.packets) {
            self.rule(chain, &format!("{vip} {comment} {target}"));
            return;
        }
        for protocol in entry.protocols() {
            let port = match entry.relationship.port {
                Some(port) => format!(" -m {protocol} --dport {port}"),
                None => String::new(),
            };
            self.rule(chain, &format!("{vip} -p {protocol}{port} {comment} {target}"));
        }
    }

    /// Chooses among the backends of an entry.
    fn select(&mut self, chain: &str, entry: &Entry<'_>) {
        let service = entry.service;
        let of = service.backends.len();
        let all_protocols = entry.is_for_all_protocols(self.packets);
        let targets: Vec<_> = (1..)
            .zip(&service.backends)
            .map(|(number, backend)| match (backend.port, entry.protocols()) {
                (None, _) => (String::new(), dnat(backend)),
                (Some(port), [protocol]) => {
                    (format!("-p {protocol} "), format!("{}:{port}", dnat(backend)))
                }
                (Some(port), both) => {
                    let own = format!("{chain}-{number}");
                    self.chain(&own);
                    for protocol in both {
                        self.rule(&own, &format!("-p {protocol} {}:{port}", dnat(backend)));
                    }
                    if all_protocols {
                        self.rule(&own, &dnat(backend));
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
        let Self { table, packets: _, chains, rules } = self;
        writeln!(f, "*{table}")?;
        for chain in chains {
            writeln!(f, ":{chain} - [0:0]")?;
        }
        f.write_str(rules)?;
        writeln!(f, "COMMIT")
    }
}
