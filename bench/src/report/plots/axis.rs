//! The values at which a logarithmic axis has labels.

use std::ops::Range;

/// The most labels of an axis.
const MOST: usize = 10;

/// The axis around these values, and the values with labels. It starts at a label, so no curve is below all
/// labels.
pub(super) fn axis(values: &Range<f64>) -> (Range<f64>, Vec<f64>) {
    let (least, end) = (values.start / 1.1, values.end * 1.3);
    let power = 10_f64.powf(least.log10().floor());
    let at = |steps: &[f64]| -> (Range<f64>, Vec<f64>) {
        let all =
            (0..=12).flat_map(|n| steps.iter().map(move |step| step * power * 10_f64.powi(n)));
        let all: Vec<_> = all.take_while(|value| *value <= end).collect();
        let start = all.iter().rposition(|value| *value <= least).unwrap_or(0);
        (all[start]..end, all[start..].to_vec())
    };
    let fine = at(&[1.0, 2.0, 5.0]);
    if fine.1.len() <= MOST { fine } else { at(&[1.0]) }
}

/// Formats a time with as few digits as a label needs.
pub(super) fn label(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds * 1.001 {
        ns if ns < 1e3 => (nanoseconds, "ns"),
        ns if ns < 1e6 => (nanoseconds / 1e3, "µs"),
        ns if ns < 1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    format!("{value:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: Range<f64>) -> Vec<String> {
        axis(&values).1.into_iter().map(label).collect()
    }

    #[test]
    fn labels_are_where_curves_are() {
        for (values, expected) in [
            (14.2e3..267e3, &["10 µs", "20 µs", "50 µs", "100 µs", "200 µs"][..]),
            (12e3..13e3, &["10 µs"]),
            (21.9e3..542e3, &["10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs"]),
            (230e3..2e6, &["200 µs", "500 µs", "1 ms", "2 ms"]),
            (60e3..926e6, &["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]),
        ] {
            assert_eq!(labels(values.clone()), expected, "{values:?}");
        }
    }
}
