//! Medians, quartiles, and a test whether a ratio could be chance.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Number of random exchanges that the permutation test tries.
const PERMUTATIONS: u32 = 10_000;

/// The value below which `part` of the values lie, interpolated between the two nearest.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable_by(f64::total_cmp);
    let place = part * (values.len() - 1) as f64;
    let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// The median of values and their quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// The lower quartile; `high` is the upper one.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        let mut quantile = |part| quantile(&mut values, part);
        Self { median: quantile(0.5), low: quantile(0.25), high: quantile(0.75) }
    }
}

/// The ratio of two modes that were measured side by side in each round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    /// The median and quartiles of the ratios of all rounds.
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// The probability that two equal modes give a ratio at least as far from 1.
    pub(crate) p: f64,
}

impl Ratio {
    /// The ratio of two series whose values come from the same rounds.
    pub(crate) fn of(above: &[f64], below: &[f64]) -> Self {
        let ratios: Vec<_> = above.iter().zip(below).map(|(a, b)| a / b).collect();
        let logs: Vec<_> = ratios.iter().map(|ratio| ratio.ln()).collect();
        Self { spread: Spread::of(&ratios), p: sign_flips(&logs) }
    }
}

/// A permutation test of pairs.
///
/// If two modes do not differ, each pair could as well be the other way round. The result is the share of
/// such exchanges whose mean is at least as far from 0 as the real mean.
fn sign_flips(differences: &[f64]) -> f64 {
    let mean = differences.iter().sum::<f64>().abs();
    let mut random = Random::new(1);
    let as_far = (0..PERMUTATIONS)
        .filter(|_| {
            let flipped: f64 =
                differences.iter().map(|d| if random.next() & 1 == 0 { *d } else { -d }).sum();
            flipped.abs() >= mean * (1.0 - 1e-9)
        })
        .count();
    (as_far + 1) as f64 / f64::from(PERMUTATIONS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        for (part, expected) in [(0.0, 1.0), (0.5, 2.5), (0.25, 1.75), (1.0, 4.0)] {
            assert_eq!(quantile(&mut values, part), expected, "{part}");
        }
        assert_eq!(quantile(&mut [7.0], 0.99), 7.0);
    }

    #[test]
    fn a_difference_in_every_round_is_no_chance() {
        let below: Vec<_> = (0..15).map(|round| 100.0 + f64::from(round)).collect();
        let above: Vec<_> = below.iter().map(|value| value * 1.02).collect();
        let ratio = Ratio::of(&above, &below);
        assert!((ratio.spread.median - 1.02).abs() < 1e-9);
        assert!(ratio.p < 0.01, "{ratio:?}");
    }

    #[test]
    fn noise_is_chance() {
        let mut random = Random::new(7);
        let mut noise = || (0..15).map(|_| 100.0 + f64::from(random.below(20))).collect::<Vec<_>>();
        let ratio = Ratio::of(&noise(), &noise());
        assert!(ratio.p > 0.05, "{ratio:?}");
    }

    #[test]
    fn no_difference_at_all_has_no_significance() {
        assert!(Ratio::of(&[5.0; 9], &[5.0; 9]).p > 0.99);
    }
}
