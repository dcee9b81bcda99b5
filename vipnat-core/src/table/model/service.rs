//! Services, their backends, and the order in which backends take turns.

use std::{net::Ipv4Addr, num::NonZeroU16};

use serde::{Deserialize, Serialize};

/// A list of backends under a name, and how connections are spread over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The backends, in the order of their turns. If there are none, `connect` fails at once.
    pub backends: Vec<Backend>,
    /// How the backend of a new flow is chosen.
    pub select: Select,
    /// The treatment of UDP flows whose backend is removed.
    pub udp_pinning: UdpPinning,
    /// The treatment of connections whose backend is removed.
    pub on_backend_removed: OnBackendRemoved,
}

/// How a backend is chosen for a new flow; the modes of iptables' `statistic` match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The backends take turns, like `--mode nth`.
    #[default]
    RoundRobin,
    /// At random, in proportion to the weights, like `--mode random`.
    Random,
}

impl Select {
    /// Every mode, the default first.
    pub const ALL: [Self; 2] = [Self::RoundRobin, Self::Random];

    /// The word for it in a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
        }
    }
}

/// The treatment of a UDP flow (socket, VIP and port) whose backend is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpPinning {
    /// The next datagram goes to a backend of the present table.
    #[default]
    Table,
    /// The flow keeps its backend until it expires, as with connection tracking.
    Strict,
}

impl UdpPinning {
    /// Both modes, the default first.
    pub const ALL: [Self; 2] = [Self::Table, Self::Strict];

    /// The word for it in a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Strict => "strict",
        }
    }
}

/// The treatment of TCP connections and connected UDP sockets whose backend is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBackendRemoved {
    /// They stay open, as with iptables.
    #[default]
    Keep,
    /// vipnat ends them at once: the application gets an error, the server a reset.
    Kill,
    /// vipnat ends them after this number of seconds, 1 to [`OnBackendRemoved::MAX_DRAIN`].
    Drain(u32),
}

impl OnBackendRemoved {
    /// Every policy, the default first.
    pub const ALL: [Self; 3] = [Self::Keep, Self::Kill, Self::Drain(60)];

    /// The longest time to drain: a day.
    pub const MAX_DRAIN: u32 = 86_400;

    /// The word for it in a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Kill => "kill",
            Self::Drain(_) => "drain",
        }
    }

    /// The seconds until connections are ended, if the policy is to drain.
    pub fn drain_seconds(self) -> Option<u32> {
        match self {
            Self::Drain(seconds) => Some(seconds),
            Self::Keep | Self::Kill => None,
        }
    }
}

/// One real address of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Never a VIP, multicast, broadcast or 0.0.0.0/8.
    pub ip: Ipv4Addr,
    /// The port to connect to; `None` keeps the port that the application asked for.
    pub port: Option<NonZeroU16>,
    /// Its share of the turns, 1 to [`Backend::MAX_WEIGHT`].
    pub weight: u16,
}

impl Backend {
    /// The largest weight.
    pub const MAX_WEIGHT: u16 = 256;
}

impl Service {
    /// The longest round. It keeps one service from filling the map of slots.
    pub const MAX_TURNS: u64 = 16_384;

    /// The number of turns in a round.
    pub fn round(&self) -> u64 {
        self.weights().sum()
    }

    /// The turns of one round. Each backend gets as many as its weight, spread evenly; with equal
    /// weights, the turns are the list of backends.
    ///
    /// This is smooth weighted round robin: at each turn every backend gains its weight as credit. The
    /// one with the most credit takes the turn, and pays the sum of all weights (nginx, commit
    /// 52327e0627f4, explains it).
    pub fn turns(&self) -> impl Iterator<Item = &Backend> {
        self.order().filter_map(|turn| self.backends.get(turn))
    }

    /// The turns of one round, as indices of backends.
    pub fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let weights: Vec<u64> = self.weights().collect();
        let round = self.round().cast_signed();
        let mut credits = vec![0; weights.len()];
        (0..round).filter_map(move |_| {
            for (credit, weight) in credits.iter_mut().zip(&weights) {
                *credit += weight.cast_signed();
            }
            // The first of several with the most credit must win; max_by_key takes the last, hence rev.
            let next = (0..credits.len()).rev().max_by_key(|i| credits[*i])?;
            credits[next] -= round;
            Some(next)
        })
    }

    /// The weights of the backends, divided by their greatest common divisor.
    pub fn weights(&self) -> impl Iterator<Item = u64> {
        let all = self.backends.iter().map(|backend| u64::from(backend.weight));
        let common = all.clone().fold(0, gcd).max(1);
        all.map(move |weight| weight / common)
    }
}

/// The greatest common divisor; for 0 and a number, it is the number.
pub(crate) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn order(weights: &[u16]) -> Vec<u8> {
        let backend = |(i, weight): (usize, &u16)| Backend {
            ip: Ipv4Addr::new(240, 0, 0, i as u8),
            port: None,
            weight: *weight,
        };
        let service = Service {
            backends: weights.iter().enumerate().map(backend).collect(),
            select: Select::default(),
            udp_pinning: UdpPinning::default(),
            on_backend_removed: OnBackendRemoved::default(),
        };
        let order: Vec<_> = service.turns().map(|backend| backend.ip.octets()[3]).collect();
        assert_eq!(service.round(), order.len() as u64);
        order
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
