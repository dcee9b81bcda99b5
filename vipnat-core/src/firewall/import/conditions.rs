//! The conditions on the way to a rule.

use std::net::Ipv4Addr;

use super::save::{Prefix, Protocol, Rule, Statistic};
use crate::{
    firewall::{entry::Name, iptables::COMMENT},
    table::{check_name, is_reserved, never_a_vip, vip_of},
};

/// A reason, and what to do.
pub(super) type Unsupported = (String, &'static str);

/// What a packet must meet.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) destination: Option<Prefix>,
    pub(super) protocols: Protocols,
    pub(super) port: Option<u16>,
    /// With the line of the rule that counts.
    pub(super) statistic: Option<(Statistic, usize)>,
    pub(super) foreign: Vec<String>,
    /// The endpoints and their services, if a comment of vipnat tells.
    pub(super) names: Vec<Name>,
    /// The place of the backend in its service, if a comment of vipnat tells.
    pub(super) number: Option<usize>,
}

/// A set of the two.
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

    /// These and those of a rule, unless they exclude each other.
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

    /// The VIP that a rule is for.
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

    /// Why this is not about VIPs, if no address that is meant can be one.
    pub(super) fn no_vip(&self) -> Option<String> {
        let these = self.destination?;
        if these.and(Prefix::VIPS).is_none() {
            return Some("it is for addresses outside 169.254.0.0/16".to_owned());
        }
        let ip = these.single()?;
        let reason = never_a_vip(ip)?;
        (!self.names_give(ip)).then(|| format!("{ip} {reason}"))
    }

    /// Whether comments of vipnat tell only of relationships whose name gives this VIP, and keeps it
    /// whatever else is there.
    fn names_give(&self, vip: Ipv4Addr) -> bool {
        let gives = |name: &Name| {
            check_name(&name.name).and(check_name(&name.service)).is_ok()
                && vip_of(&name.name) == vip
        };
        !self.names.is_empty() && self.names.iter().all(gives)
    }

    /// Whether all addresses that are meant are among those that names are not given, so that they are
    /// VIPs only where a rule says so.
    pub(super) fn reserved(&self) -> bool {
        self.destination.and_then(Prefix::ends).is_some_and(|(first, last)| {
            // What is reserved is whole networks of 24 bits.
            first.octets()[..3] == last.octets()[..3] && is_reserved(first) && is_reserved(last)
        })
    }

    /// Whether packets to this VIP, port and protocol can be among those meant, as far as these alone
    /// decide.
    pub(super) fn meet(&self, other: &Self, vip: Ipv4Addr) -> bool {
        let same_port = self.port.is_none() || other.port.is_none() || self.port == other.port;
        same_port
            && !self.protocols.and(other.protocols).is_empty()
            && self.destination.is_none_or(|destination| destination.contains(vip))
    }
}

/// The names in a comment of [`iptables`](crate::firewall::iptables).
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
