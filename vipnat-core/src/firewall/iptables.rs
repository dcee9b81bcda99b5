//! Exports rules for `iptables-restore`.
//!
//! One chain for each VIP chooses the backend, so that TCP and UDP share the turns. A backend with a port
//! gets a chain too, since `--to-destination IP:PORT` needs a protocol.

use std::fmt;

use super::{
    beside::{self, VIPS},
    entry::{Entry, Packets},
};
use crate::table::{App, Backend, Select, Service, Table};

/// The chain that OUTPUT jumps to, if rules replace vipnat. The names of all chains of vipnat begin so.
pub(crate) const CHAIN: &str = "VIPNAT";

/// The chain that OUTPUT jumps to, if rules run beside vipnat. The import skips it, since vipnat has the table.
pub(crate) const BESIDE: &str = "VIPNAT-BESIDE";

/// The beginning of comments of vipnat.
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

/// Exempts TCP and UDP from connection tracking, which any rule of the nat table turns on. Packets to
/// 169.254.0.0/16 and possible replies stay tracked.
///
/// These rules don't depend on the table. So a translated connection stays so when another table is loaded.
fn untracked() -> Rules {
    const UNTRACKED: &str = "VIPNAT-UNTRACKED";

    let mut raw = Rules::empty("raw");
    raw.chain(UNTRACKED);
    // Loopback traffic is left alone, since others may use NAT for it. CT does not end the rules, so -g
    // sends the packet to a chain after which no further rule of these follows.
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

/// The nat table: translates connections to backends.
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

/// The filter table: rejects connections to VIPs without backends, since the nat table can't reject. It is
/// written even if it is empty, to remove earlier rules.
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

/// The chain that OUTPUT jumps to.
fn dispatch(packets: Packets) -> &'static str {
    match packets {
        Packets::TcpAndUdp => CHAIN,
        Packets::Unreached => BESIDE,
    }
}

/// A table of iptables under construction.
struct Rules {
    table: &'static str,
    packets: Packets,
    /// Chains to declare, which also empties them.
    chains: Vec<String>,
    /// The rules, a line each.
    rules: String,
}

impl Rules {
    fn empty(table: &'static str) -> Self {
        Self { table, packets: Packets::Unreached, chains: Vec::new(), rules: String::new() }
    }

    /// A table whose OUTPUT jumps to the chain of vipnat.
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

    /// Changes the source ports of translated connections, so that their replies are recognised.
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

    /// Sends packets for the VIP to `target`.
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

    /// Adds the rules that choose among the backends of an entry.
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

/// The rules that choose, in order: the index of a backend, and the condition of its rule.
///
/// A rule sees and counts only packets that earlier rules passed. So the first of n rules takes one in n, and
/// the second one in n - 1 of the rest. The last takes all that is left. (With n rules that each take one in
/// n, a common mistake, some connections match none.)
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

/// Quotes a word for iptables-restore. It takes a word for an option by its first character, even in quotes,
/// so text must not begin with a name from outside.
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
