//! What a VIP does, in the terms of the data path: no names, turns instead of weights.

use std::net::Ipv4Addr;

use serde::Serialize;
use vipnat_common::{
    Protocol, Slot, VipKey,
    layout::{ANY_PORT, ANY_PROTOCOL},
};

use crate::table::{Backend, Relationship, Table};

/// One VIP of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The app.
    pub scope: u32,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The only port translated, or 0 for all.
    pub port: u16,
    /// The only protocol translated, or [`ANY_PROTOCOL`].
    pub protocol: Protocol,
    /// The round of the round robin. Empty: connects are refused.
    pub turns: Vec<Turn>,
}

/// Where one turn goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Turn {
    /// The backend.
    pub ip: Ipv4Addr,
    /// Its port, or 0 for the one the application asked for.
    pub port: u16,
}

impl Rule {
    /// The rule of a relationship.
    pub(super) fn new(scope: u32, relationship: &Relationship, table: &Table) -> Self {
        Self {
            scope,
            vip: relationship.vip,
            port: relationship.port.map_or(ANY_PORT, u16::from),
            protocol: relationship.protocol.unwrap_or(ANY_PROTOCOL),
            turns: turns(table.backends(relationship)),
        }
    }

    fn limited(&self) -> bool {
        self.port != ANY_PORT || self.protocol != ANY_PROTOCOL
    }

    /// The entries of the map `vips` that make the rule, with their slots, in the order in which
    /// they have to be written: a limited entry before the head that sends readers to it.
    pub(super) fn entries(&self, cursor: u32) -> Vec<(VipKey, Vec<Slot>)> {
        let vip = self.vip.octets();
        let head = VipKey::head(self.scope, vip);
        let key = VipKey::new(self.scope, vip, self.port, self.protocol);
        let slot =
            |owner, ip: Ipv4Addr, port, flags| Slot { owner, ip: ip.octets(), port, flags, cursor };

        let mut slots: Vec<_> = self.turns.iter().map(|t| slot(key, t.ip, t.port, 0)).collect();
        if slots.is_empty() {
            slots.push(slot(key, Ipv4Addr::UNSPECIFIED, 0, Slot::UNREACHABLE));
        }
        let mut entries = vec![(key, slots)];
        if self.limited() {
            entries.push((head, vec![slot(head, Ipv4Addr::UNSPECIFIED, 0, Slot::LIMITED)]));
        }
        entries
    }
}

/// The order of turns of a round: each backend as often as its weight says, spread as evenly as
/// can be, so that with equal weights it is the list itself.
///
/// Smooth weighted round robin: at each turn every backend gains its weight, the one that has most
/// goes and pays the total (nginx, commit 52327e0627f4, explains it). Weights are first divided by
/// what they have in common.
fn turns(backends: &[Backend]) -> Vec<Turn> {
    let common = backends.iter().map(|b| u32::from(b.weight)).fold(0, gcd).max(1);
    let weights: Vec<i64> =
        backends.iter().map(|b| i64::from(u32::from(b.weight) / common)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; backends.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // The first of those that have most, hence the reversal: max_by_key takes the last.
        let Some(next) = (0..credit.len()).rev().max_by_key(|i| credit[*i]) else {
            break;
        };
        credit[next] -= total;
        let Backend { ip, port, weight: _ } = backends[next];
        turns.push(Turn { ip, port: port.map_or(0, u16::from) });
    }
    turns
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, num::NonZeroU16};

    use proptest::prelude::*;

    use super::*;

    fn backends(weights: &[u16]) -> Vec<Backend> {
        let backend = |(i, weight): (usize, &u16)| Backend {
            ip: Ipv4Addr::new(240, 0, 0, i as u8),
            port: NonZeroU16::new(1000),
            weight: *weight,
        };
        weights.iter().enumerate().map(backend).collect()
    }

    fn order(weights: &[u16]) -> Vec<u8> {
        turns(&backends(weights)).iter().map(|turn| turn.ip.octets()[3]).collect()
    }

    #[test]
    fn equal_weights_are_the_list() {
        assert!(order(&[]).is_empty());
        assert_eq!(order(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(order(&[7, 7]), [0, 1]);
    }

    #[test]
    fn weights_are_spread_over_the_round() {
        assert_eq!(order(&[2, 1]), [0, 1, 0]);
        assert_eq!(order(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order(&[256, 128]), [0, 1, 0]);
    }

    proptest! {
        #[test]
        fn every_backend_gets_its_weight(weights in proptest::collection::vec(1..=256u16, 1..6)) {
            let mut counts: HashMap<u8, u32> = HashMap::new();
            for backend in order(&weights) {
                *counts.entry(backend).or_default() += 1;
            }
            for (i, weight) in weights.iter().enumerate() {
                let (count, first) = (counts[&(i as u8)], counts[&0]);
                prop_assert_eq!(count * u32::from(weights[0]), first * u32::from(*weight));
            }
        }
    }
}
