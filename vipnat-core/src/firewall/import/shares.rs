//! Recognises how rules share connections among backends, and makes a service of it.

use std::{collections::HashMap, net::Ipv4Addr, num::NonZeroU16};

use super::save::Statistic;
use crate::table::{Backend, OnBackendRemoved, Select, Service, UdpPinning, gcd};

/// Tolerances for probabilities, smallest first: that of `iptables-save` (the kernel keeps 31 bits), then
/// those of people.
const TOLERANCES: [f64; 3] = [1e-9, 0.001, 0.01];

/// One rule: the share that it takes of what earlier rules passed, and its backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) statistic: Option<Statistic>,
    pub(super) backend: (Ipv4Addr, Option<NonZeroU16>),
    /// The place of the backend in its service, from a comment.
    pub(super) number: Option<usize>,
}

/// The service that does what the rules do, or were meant to do, and notes about it.
///
/// # Errors
///
/// The reason why no service does the same.
pub(super) fn service(turns: &[Turn]) -> Result<(Service, Vec<String>), String> {
    let mut notes = Vec::new();
    let (select, weights) = match kind(turns)? {
        Kind::One => (Select::RoundRobin, vec![1]),
        Kind::Literal(select) => {
            notes.push(lost(turns.len()));
            (select, vec![1; turns.len()])
        }
        Kind::LiteralWithRest => {
            let n = turns.len();
            notes.push(format!(
                "each of the first {} rules takes one in {n} of what the rules before it left, so \
                 the last one gets too much: imported as the even round robin it was meant to be",
                n - 1
            ));
            (Select::RoundRobin, vec![1; n])
        }
        Kind::Chain(select, probabilities) => {
            let (weights, tolerance) = weights(&probabilities).ok_or_else(|| {
                format!("shares that are no weights from 1 to {}", Backend::MAX_WEIGHT)
            })?;
            if tolerance > TOLERANCES[0] {
                notes.push(format!("the probabilities are taken for the weights {weights:?}"));
            }
            (select, weights)
        }
    };
    let service = merged(turns, select, &weights)?;
    // Rules with equal shares, in their order, are the turns of a round.
    let same_order = weights.iter().all(|weight| *weight == weights[0])
        && turns
            .iter()
            .all(|turn| !matches!(turn.statistic, Some(Statistic::Nth { packet: 1.., .. })))
        && service
            .turns()
            .map(|backend| (backend.ip, backend.port))
            .eq(turns.iter().map(|t| t.backend));
    if select == Select::RoundRobin && !same_order && notes.is_empty() {
        notes.push(
            "the turns come in another order than by the rules; the shares are the same".to_owned(),
        );
    }
    Ok((service, notes))
}

/// The pattern that the rules form together.
enum Kind {
    /// One rule without a condition.
    One,
    /// n rules that each take one in n, a common mistake.
    Literal(Select),
    /// The same, with a last rule that takes the rest.
    LiteralWithRest,
    /// Each rule takes its share of the rest, and the last takes all of it.
    Chain(Select, Vec<f64>),
}

fn kind(turns: &[Turn]) -> Result<Kind, String> {
    let share = |turn: &Turn| match turn.statistic {
        None => 1.0,
        Some(Statistic::Nth { every, .. }) => 1.0 / f64::from(every),
        Some(Statistic::Random { probability }) => probability,
    };
    let shares: Vec<_> = turns.iter().map(share).collect();
    let (n, counting) = (turns.len() as f64, turns.iter().filter_map(|turn| turn.statistic));
    let random = counting.clone().filter(|s| matches!(s, Statistic::Random { .. })).count();
    let select = match (counting.count(), random) {
        (_, 0) => Select::RoundRobin,
        (all, random) if all == random => Select::Random,
        _ => return Err("round robin (nth) and chance (random) for one VIP".to_owned()),
    };
    if turns.len() > 1 && shares.contains(&0.0) {
        return Err("a rule with probability 0".to_owned());
    }
    // Weights of a random service can look like this too, so only round robin counts as the mistake.
    let nth = |shares: &[f64]| select == Select::RoundRobin && shares.iter().all(|s| *s == 1.0 / n);
    let [first @ .., last] = shares.as_slice() else {
        return Err("no rules".to_owned());
    };
    if *last == 1.0 {
        return Ok(match (first.len(), nth(first)) {
            (0, _) => Kind::One,
            (2.., true) => Kind::LiteralWithRest,
            _ => Kind::Chain(select, shares),
        });
    }
    let even = shares.iter().all(|s| (s - 1.0 / n).abs() <= TOLERANCES[2]);
    if turns.len() > 1 && (nth(&shares) || select == Select::Random && even) {
        return Ok(Kind::Literal(select));
    }
    let lost: f64 = shares.iter().map(|share| 1.0 - share).product();
    Err(format!("{:.0} % of the connections match none of these rules", lost * 100.0))
}

/// The note that n rules, each for one in n of the rest, lose connections, and how many.
fn lost(n: usize) -> String {
    let of = u32::try_from(n).ok().and_then(|n| {
        let power = |base: u32| base.checked_pow(n).filter(|all| *all < 100_000);
        Some(format!("{} of {} connections", power(n - 1)?, power(n)?))
    });
    let share = (1.0 - 1.0 / n as f64).powf(n as f64) * 100.0;
    format!(
        "these {n} rules each take one in {n} of what the rules before left, so {} match none of \
         them and go nowhere: imported as the even shares they were meant to be",
        of.map_or(format!("{share:.0} % of the connections"), |of| format!("{of} ({share:.0} %)"))
    )
}

/// The smallest weights that give these probabilities, of which the last is 1. The probability of a rule is
/// its weight divided by the sum of its own and all later weights.
fn weights(probabilities: &[f64]) -> Option<(Vec<u64>, f64)> {
    let max = u64::from(Backend::MAX_WEIGHT);
    // A round can't have more turns than this anyway.
    let max_left = f64::from(u32::MAX);
    let try_with = |last: u64, tolerance: f64| {
        let mut weights = vec![last];
        let mut left = last as f64;
        for probability in probabilities.iter().rev().skip(1) {
            let weight = (probability / (1.0 - probability) * left).round();
            left += weight;
            let fits = (weight / left - probability).abs() <= tolerance;
            if !(fits && weight >= 1.0 && weight <= max as f64 && left <= max_left) {
                return None;
            }
            weights.push(weight as u64);
        }
        weights.reverse();
        Some((weights, tolerance))
    };
    TOLERANCES.iter().find_map(|tolerance| (1..=max).find_map(|last| try_with(last, *tolerance)))
}

/// The service with each backend once, and the sum of its weights.
fn merged(turns: &[Turn], select: Select, weights: &[u64]) -> Result<Service, String> {
    let mut backends: Vec<(Turn, u64)> = Vec::new();
    let mut places = HashMap::new();
    for (turn, weight) in turns.iter().zip(weights) {
        let place = *places.entry(turn.backend).or_insert(backends.len());
        match backends.get_mut(place) {
            Some((_, sum)) => *sum += weight,
            None => backends.push((*turn, *weight)),
        }
    }
    // Without numbers, the order of the rules stays.
    backends.sort_by_key(|(turn, _)| turn.number);
    let common = backends.iter().fold(0, |common, (_, weight)| gcd(common, *weight)).max(1);
    let backends = backends.into_iter().map(|(Turn { backend: (ip, port), .. }, weight)| {
        let weight = u16::try_from(weight / common).ok();
        let weight = weight.filter(|weight| *weight <= Backend::MAX_WEIGHT);
        let weight = weight.ok_or(format!("a weight of more than {}", Backend::MAX_WEIGHT))?;
        Ok(Backend { ip, port, weight })
    });
    let backends: Result<Vec<_>, String> = backends.collect();
    let service = Service {
        backends: backends?,
        select,
        udp_pinning: UdpPinning::default(),
        on_backend_removed: OnBackendRemoved::default(),
    };
    if service.round() > Service::MAX_TURNS {
        return Err(format!("more than {} turns in a round", Service::MAX_TURNS));
    }
    Ok(service)
}
