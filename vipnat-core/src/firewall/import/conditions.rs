//! The conditions that a packet meets on its way to a rule.

use std::net::Ipv4Addr;

use super::save::{Prefix, Protocol, Rule, Statistic};
use crate::{
    firewall::{entry::Name, iptables::COMMENT},
    table::{check_name, is_reserved, never_a_vip, vip_of},
};

/// A reason and its remedy.
pub(super) type Unsupported = (String, &'static str);

/// The conditions that a packet must meet.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) destination: Option<Prefix>,
    pub(super) protocols: Protocols,
    pub(super) port: Option<u16>,
    /// The statistic, with the line of its rule.
    pub(super) statistic: Option<(Statistic, usize)>,
    pub(super) foreign: Vec<String>,
    /// The endpoints and their services, from a comment of vipnat.
    pub(super) names: Vec<Name>,
    /// The place of the backend in its service, from a comment of vipnat.
    pub(super) number: Option<usize>,
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocols {
    pub(super) tcp: bool,
    pub(super) udp: bool,
}

impl Protocols {
    pub(super) const BOTH: Self = Self { tcp: true, udp: true };

    fn of(rule: &Rule<'_>) -> Self {
        match rule.protocol {
            None => Self::BOTH,
            Some(protocol) => {
                Self { tcp: protocol == Protocol::Tcp, udp: protocol == Protocol::Udp }
            }
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { tcp: self.tcp && other.tcp, udp: self.udp && other.udp }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self { tcp: self.tcp && !other.tcp, udp: self.udp && !other.udp }
    }

    pub(super) fn is_empty(self) -> bool {
        !self.tcp && !self.udp
    }
}

impl Conditions {
    pub(super) const NONE: Self = Self {
        destination: None,
        protocols: Protocols::BOTH,
        port: None,
        statistic: None,
        foreign: Vec::new(),
        names: Vec::new(),
        number: None,
    };

    /// These conditions and those of a rule. `None` if no packet meets both.
    pub(super) fn and(&self, rule: &Rule<'_>) -> Option<Self> {
        let mut both = self.clone();
        both.protocols = self.protocols.and(Protocols::of(rule));
        if rule.never || both.protocols.is_empty() {
            return None;
        }
        both.destination = match (self.destination, rule.destination) {
            (Some(a), Some(b)) => Some(a.and(b)?),
            (a, b) => a.or(b),
        };
        if self.port.is_some_and(|a| rule.port.is_some_and(|b| a != b)) {
            return None;
        }
        both.port = self.port.or(rule.port);
        both.foreign.extend_from_slice(&rule.foreign);
        if let Some(statistic) = rule.statistic
            && both.statistic.replace((statistic, rule.line)).is_some()
        {
            both.foreign.push("a second statistic on the way to this rule".to_owned());
        }
        if let Some(comment) = &rule.comment {
            if both.names.is_empty() {
                both.names = names(comment);
            }
            both.number = both.number.or_else(|| number(comment));
        }
        Some(both)
    }

    /// The only VIP that meets these conditions.
    pub(super) fn vip(&self) -> Result<Ipv4Addr, Unsupported> {
        let Self { destination, foreign, .. } = self;
        if let Some(foreign) = foreign.first() {
            let help =
                "a relationship has a VIP, a port and a protocol; write the rule with these alone";
            return Err((foreign.clone(), help));
        }
        destination.and_then(Prefix::single).ok_or_else(|| {
            let help = "write a rule for each VIP, with `-d VIP/32`";
            ("a destination that is not one address".to_owned(), help)
        })
    }

    /// The reason why no VIP meets these conditions, if none can.
    pub(super) fn no_vip(&self) -> Option<String> {
        let these = self.destination?;
        if these.and(Prefix::VIPS).is_none() {
            return Some("it is for addresses outside 169.254.0.0/16".to_owned());
        }
        let ip = these.single()?;
        let reason = never_a_vip(ip)?;
        (!self.names_give(ip)).then(|| format!("{ip} {reason}"))
    }

    /// Whether comments of vipnat name only relationships whose name derives this VIP. Such a VIP stays
    /// valid, even if the address is well known.
    fn names_give(&self, vip: Ipv4Addr) -> bool {
        let gives = |name: &Name| {
            check_name(&name.name).and(check_name(&name.service)).is_ok()
                && vip_of(&name.name) == vip
        };
        !self.names.is_empty() && self.names.iter().all(gives)
    }

    /// Whether all matching addresses are reserved, so that they are VIPs only if a rule names them.
    pub(super) fn reserved(&self) -> bool {
        self.destination.and_then(Prefix::ends).is_some_and(|(first, last)| {
            // Whole networks of 24 bits are reserved.
            first.octets()[..3] == last.octets()[..3] && is_reserved(first) && is_reserved(last)
        })
    }

    /// Whether a packet to this VIP that meets `other` can meet these conditions too, as far as address, port
    /// and protocol decide.
    pub(super) fn meet(&self, other: &Self, vip: Ipv4Addr) -> bool {
        let same_port = self.port.is_none() || other.port.is_none() || self.port == other.port;
        same_port
            && !self.protocols.and(other.protocols).is_empty()
            && self.destination.is_none_or(|destination| destination.contains(vip))
    }
}

/// The endpoints in a comment of [`iptables`](crate::firewall::iptables()).
fn names(comment: &str) -> Vec<Name> {
    let words: Vec<_> = comment.strip_prefix(COMMENT).unwrap_or_default().split(' ').collect();
    let pair = |pair: &[&str]| match pair {
        [label, service] => Name::parse(label, service),
        _ => None,
    };
    words.chunks(2).map(pair).collect::<Option<_>>().unwrap_or_default()
}

/// The number in `backend 2 of 3`.
fn number(comment: &str) -> Option<usize> {
    comment.strip_prefix("backend ")?.split_once(" of ")?.0.parse().ok()
}
