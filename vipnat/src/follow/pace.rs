//! The pace of reading events: a few immediately, a flood in batches.

use std::time::{Duration, Instant};

/// The time for which events of a flood gather before they are read.
const GATHER: Duration = Duration::from_millis(2);
/// The number of batches in a row to read immediately.
const FEW: u32 = 8;
/// After a pause of this length, a flood is over.
const CALM: Duration = Duration::from_millis(4);

/// The times of the last batches.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    in_a_row: u32,
}

impl Pace {
    /// The time to wait before the next read, after a batch was read at `now`.
    pub(crate) fn rest(&mut self, now: Instant) -> Duration {
        let last = self.last.replace(now);
        let goes_on = last.is_some_and(|last| now.saturating_duration_since(last) < CALM);
        self.in_a_row = if goes_on { self.in_a_row.saturating_add(1) } else { 0 };
        if self.in_a_row < FEW { Duration::ZERO } else { GATHER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_read_at_once_and_a_flood_in_batches() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut rests = |count: u32, every: Duration| {
            let mut rest = Duration::ZERO;
            for _ in 0..count {
                now += every;
                rest += pace.rest(now);
            }
            rest
        };
        let ms = Duration::from_millis;
        assert_eq!(rests(FEW, ms(1)), ms(0));
        assert_eq!(rests(10, ms(3)), GATHER * 10);
        assert_eq!(rests(1, CALM), ms(0));
        assert_eq!(rests(100, ms(25)), ms(0));
    }
}
