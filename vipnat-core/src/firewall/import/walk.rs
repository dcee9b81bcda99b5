//! Follows a packet through the chains from OUTPUT, and collects the rules at which it can end.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
};

use super::{
    conditions::{Conditions, Protocols, Unsupported},
    remark::Remark,
    save::{Prefix, Rule, Saved},
};
use crate::firewall::iptables::BESIDE;

/// The deepest nesting of chains, and the largest number of rules to visit. Without a limit, chains that
/// iptables accepts could take for ever.
const MAX_DEPTH: usize = 32;
const MAX_STEPS: usize = 2_000_000;

/// Targets that do not end the traversal.
const GO_ON: [&str; 12] = [
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "TRACE",
    "AUDIT",
    "SECMARK",
    "CONNSECMARK",
    "DSCP",
    "TOS",
    "SET",
];

/// The destination of packets that meet a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This address, and this port or the port that was asked for.
    Backend(Ipv4Addr, Option<NonZeroU16>),
    /// None: the connection is refused.
    Refused,
}

/// A rule at which packets to a VIP end, and all conditions on the way to it.
#[derive(Clone, Debug)]
pub(super) struct Leaf<'a> {
    pub(super) rule: &'a Rule<'a>,
    pub(super) vip: Ipv4Addr,
    pub(super) conditions: Conditions,
    pub(super) end: End,
}

impl Leaf<'_> {
    /// A remark about the rule.
    pub(super) fn remark(&self, reason: impl Into<String>, help: impl Into<String>) -> Remark {
        Remark::new(self.rule.line, self.rule.text, reason, help)
    }
}

/// The result of a walk.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// In the order in which a packet reaches them.
    pub(super) leaves: Vec<Leaf<'a>>,
    pub(super) unsupported: Vec<Remark>,
    pub(super) notes: Vec<Remark>,
}

/// All rules at which a packet to a VIP can end, from OUTPUT of `table` on.
pub(super) fn walk<'a>(saved: &'a Saved<'a>, table: &'a str) -> Found<'a> {
    let mut walk = Walk {
        saved,
        table,
        found: Found::default(),
        exceptions: Vec::new(),
        told: HashSet::new(),
        left: Protocols::BOTH,
        steps: 0,
        endless: false,
    };
    walk.chain("OUTPUT", &Conditions::NONE, 0);
    walk.exceptions();
    walk.found
}

struct Walk<'a> {
    saved: &'a Saved<'a>,
    table: &'a str,
    found: Found<'a>,
    /// Rules that take packets away before they reach the leaves from this number on.
    exceptions: Vec<(usize, &'a Rule<'a>, Conditions)>,
    /// Lines that have a remark.
    told: HashSet<usize>,
    /// Protocols whose packets are still in the table.
    left: Protocols,
    steps: usize,
    /// Whether a limit was reached.
    endless: bool,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, name: &'a str, conditions: &Conditions, depth: usize) {
        let Some(rules) = self.saved.chains.get(&(self.table, name)) else {
            return;
        };
        // Protocols whose packets are still in this chain.
        let mut here = Protocols::BOTH;
        for rule in rules {
            self.steps += 1;
            let Some(mut all) = conditions.and(rule) else {
                continue;
            };
            all.protocols = all.protocols.and(here).and(self.left);
            let Some(target) = rule.target.as_deref() else {
                continue;
            };
            if all.protocols.is_empty() || GO_ON.contains(&target) {
                continue;
            }
            let leads_on =
                target != BESIDE && self.saved.chains.contains_key(&(self.table, target));
            if let Some(reason) = all.no_vip()
                && !leads_on
            {
                self.not_about_vips(rule, &reason);
                continue;
            }
            if self.endless || depth > MAX_DEPTH || self.steps > MAX_STEPS {
                if !self.endless {
                    let help = "look for chains that lead to each other in a circle";
                    self.unsupported(rule, "chains that lead to each other without an end", help);
                }
                self.endless = true;
                return;
            }
            if target == BESIDE {
                // Rules beside vipnat: the table that they come from is in use already.
            } else if leads_on {
                // Followed even if no VIP can match, to find rules that should be kept.
                self.chain(target, &all, depth + 1);
            } else if target == "DNAT" {
                self.dnat(rule, all);
            } else if target == "REJECT" && self.table == "filter" {
                self.reject(rule, all);
            } else if !returns_anyway(rules, rule) {
                self.exception(rule, target, all, &mut here);
            }
        }
    }

    fn dnat(&mut self, rule: &'a Rule<'a>, conditions: Conditions) {
        match conditions.vip().and_then(|vip| Ok((vip, backend(&rule.to_destination)?))) {
            Ok((vip, end)) => self.found.leaves.push(Leaf { rule, vip, conditions, end }),
            Err(_) if conditions.reserved() => self.except(rule, conditions),
            Err((reason, help)) => self.unsupported(rule, &reason, help),
        }
    }

    /// A REJECT. Of the filter table, only VIPs without backends are imported.
    fn reject(&mut self, rule: &'a Rule<'a>, conditions: Conditions) {
        if let Ok(vip) = conditions.vip()
            && rule.reject_with.as_deref() == Some("icmp-host-unreachable")
            && conditions.statistic.is_none()
        {
            self.found.leaves.push(Leaf { rule, vip, conditions, end: End::Refused });
        }
    }

    /// A rule for addresses that are no VIPs. If it translates, connections may depend on it, so a note says
    /// to keep it.
    fn not_about_vips(&mut self, rule: &Rule<'_>, reason: &str) {
        if self.table == "nat" && translates(rule) && self.told.insert(rule.line) {
            let reason = format!("not for a VIP, so not imported: {reason}");
            let help = "keep this rule: vipnat leaves such connections alone";
            self.found.notes.push(Remark::new(rule.line, rule.text, reason, help));
        }
    }

    /// A rule that takes packets away before they reach later rules.
    fn exception(
        &mut self,
        rule: &'a Rule<'a>,
        target: &str,
        conditions: Conditions,
        here: &mut Protocols,
    ) {
        let Conditions { destination, protocols, port, statistic, foreign, .. } = &conditions;
        if destination.is_none() && port.is_none() && statistic.is_none() && foreign.is_empty() {
            let rest = if target == "RETURN" { here } else { &mut self.left };
            *rest = rest.without(*protocols);
        } else if self.table != "nat" {
            // Exceptions only matter in the nat table.
        } else if destination.is_some() && translates(rule) && !conditions.reserved() {
            let reason = format!("{target} for addresses that are in the range of VIPs");
            self.unsupported(rule, &reason, "a table can only say DNAT to a backend's address");
        } else if destination.is_some() {
            self.except(rule, conditions);
        } else if self.told.insert(rule.line) {
            let reason = format!("{target} for some packets, maybe also to VIPs: not imported");
            let help = "look whether it matters; vipnat translates them";
            self.found.notes.push(Remark::new(rule.line, rule.text, reason, help));
        }
    }

    fn except(&mut self, rule: &'a Rule<'a>, conditions: Conditions) {
        self.exceptions.push((self.found.leaves.len(), rule, conditions));
    }

    /// Reports exceptions that come before a rule for a VIP. Others, such as a RETURN for the rest, stay valid
    /// beside vipnat.
    fn exceptions(&mut self) {
        let mut by_vip: HashMap<Ipv4Addr, Vec<usize>> = HashMap::new();
        for (number, leaf) in self.found.leaves.iter().enumerate() {
            by_vip.entry(leaf.vip).or_default().push(number);
        }
        for (from, rule, conditions) in std::mem::take(&mut self.exceptions) {
            let leaves = &self.found.leaves;
            let meets = |leaf: &&Leaf<'_>| conditions.meet(&leaf.conditions, leaf.vip);
            let behind = match conditions.destination.and_then(Prefix::single) {
                Some(vip) => {
                    let numbers = by_vip.get(&vip).map_or(&[][..], Vec::as_slice);
                    let numbers = &numbers[numbers.partition_point(|number| *number < from)..];
                    numbers.iter().map(|number| &leaves[*number]).find(meets)
                }
                None => leaves[from..].iter().find(meets),
            };
            let Some(Leaf { rule: later, vip, .. }) = behind else {
                self.not_about_vips(rule, "no rule after it is for a VIP among its addresses");
                continue;
            };
            let target = rule.target.as_deref().unwrap_or_default();
            let line = later.line;
            let reason = format!("{target} before the rule in line {line}, which is for VIP {vip}");
            self.unsupported(
                rule,
                &reason,
                "a relationship has no exceptions; reorder or remove it",
            );
        }
    }

    fn unsupported(&mut self, rule: &Rule<'_>, reason: &str, help: &str) {
        if self.told.insert(rule.line) {
            self.found.unsupported.push(Remark::new(rule.line, rule.text, reason, help));
        }
    }
}

/// Whether a rule changes destinations.
fn translates(rule: &Rule<'_>) -> bool {
    matches!(rule.target.as_deref(), Some("DNAT" | "REDIRECT" | "NETMAP"))
}

/// Whether a rule only returns at the end of its chain, which happens anyway.
fn returns_anyway(rules: &[Rule<'_>], rule: &Rule<'_>) -> bool {
    rule.target.as_deref() == Some("RETURN")
        && rules.last().is_some_and(|last| last.line == rule.line)
}

/// The backend of a `--to-destination`.
fn backend(to: &[String]) -> Result<End, Unsupported> {
    let help = "write `--to-destination IP` or `IP:PORT`, a rule for each backend";
    let [to] = to else {
        return Err(("not exactly one `--to-destination`".to_owned(), help));
    };
    let (ip, port) = if let Ok(ip) = to.parse::<Ipv4Addr>() {
        (ip, None)
    } else if let Ok(address) = to.parse::<SocketAddrV4>() {
        (*address.ip(), Some(address.port()))
    } else {
        let what = if to.parse::<SocketAddr>().is_ok() || to.contains("::") {
            "an IPv6 address; VIPs and backends are IPv4"
        } else if to.contains('-') {
            "a range of addresses or ports"
        } else {
            "no address"
        };
        return Err((format!("`--to-destination {to}` is {what}"), help));
    };
    if let Some(reason) = crate::table::never_a_backend(ip) {
        return Err((format!("backend {ip} {reason}"), "use the real address of a container"));
    }
    match port.map(NonZeroU16::new) {
        None => Ok(End::Backend(ip, None)),
        Some(Some(port)) => Ok(End::Backend(ip, Some(port))),
        Some(None) => Err((format!("`--to-destination {to}` has port 0"), help)),
    }
}
