//! The time at which a changed file is read.

use std::time::{Duration, Instant};

/// The pause between a change and the read of the file, so that related changes are read together.
const SETTLE: Duration = Duration::from_micros(500);
/// The time without a write after which a file is read, although its writer has not closed it.
const WRITING: Duration = Duration::from_secs(1);
/// The longest wait for the end of writes.
const WRITTEN: Duration = Duration::from_secs(10);
/// The wait if no read is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The time of the next read, if one is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadSchedule {
    at: Option<Instant>,
    /// The latest time to read the file, even if further writes come until then.
    latest: Option<Instant>,
}

impl ReadSchedule {
    /// Schedules a read after a pause in the writes. Further writes delay it, up to a limit.
    pub(super) fn after_writes(&mut self) {
        let now = Instant::now();
        let latest = *self.latest.get_or_insert(now + WRITTEN);
        self.at = Some(latest.min(now + WRITING));
    }

    /// Schedules a read soon. Further changes do not delay it, since a burst might never end.
    pub(super) fn soon(&mut self) {
        self.no_later_than(Instant::now() + SETTLE);
    }

    /// Schedules a read at once.
    pub(super) fn now(&mut self) {
        self.no_later_than(Instant::now());
    }

    /// Schedules a read at once, unless one is scheduled: a file is not read while it is written to.
    pub(super) fn now_or_as_scheduled(&mut self) {
        self.at.get_or_insert_with(Instant::now);
    }

    /// Cancels the read, since one begins now.
    pub(super) fn cancel(&mut self) {
        *self = Self::default();
    }

    /// The time during which no read is due.
    pub(super) fn pause(&self) -> Duration {
        self.at.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether to read the file now.
    pub(super) fn is_due(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    fn no_later_than(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }
}
