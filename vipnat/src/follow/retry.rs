//! The time until `vipnat run` tries again after a failure.

use std::time::Duration;

/// The first pause after a failure.
pub(crate) const FIRST: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after a failure. Each further failure in a row doubles it.
#[derive(Debug)]
pub(crate) struct Retry {
    next: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Retry {
    /// Notes a failure. Returns the pause after it.
    pub(crate) fn failed(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }

    /// Notes a success: the next failure has the first pause again.
    pub(crate) fn succeeded(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_the_pause_up_to_a_limit() {
        let mut retry = Retry::default();
        let pauses: Vec<_> = (0..7).map(|_| retry.failed().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        retry.succeeded();
        assert_eq!(retry.failed(), FIRST);
    }
}
