//! What `run` does next, and when.

use std::time::{Duration, Instant};

/// How long after a change the table is read: long enough for what belongs together.
const SETTLE: Duration = Duration::from_micros(500);
/// How long a file that is being written may rest before it is read although it was not closed.
const WRITING: Duration = Duration::from_secs(1);
/// What to do next, and when.
#[derive(Clone, Copy)]
pub(crate) struct Next {
    /// Look at everything, and read the file.
    pub(crate) review: Instant,
    /// Read the file, which changed.
    pub(crate) file: Option<Instant>,
    /// At the latest, however often it is written to meanwhile.
    pub(crate) latest: Option<Instant>,
    /// Look at cgroups, of which some came or went.
    pub(crate) cgroups: bool,
    /// But not before.
    pub(crate) cgroups_from: Instant,
    /// Look at everything but the file.
    pub(crate) look: Option<Instant>,
}

impl Next {
    /// Nothing happened yet.
    pub(crate) fn at(review: Instant) -> Self {
        let now = Instant::now();
        Self { review, file: None, latest: None, cgroups: false, cgroups_from: now, look: None }
    }

    pub(crate) fn hear_of_writing(&mut self) {
        let now = Instant::now();
        let latest = *self.latest.get_or_insert(now + WRITING * 10);
        self.file = Some(latest.min(now + WRITING));
    }

    /// The first of a burst tells when, or there might be no end of it.
    pub(crate) fn hear_of_change(&mut self) {
        let soon = Instant::now() + SETTLE;
        self.file = Some(self.file.map_or(soon, |file| file.min(soon)));
    }

    /// How long there is nothing to do.
    pub(crate) fn pause(&self) -> Duration {
        // A file that is being written is not read before its time.
        let mut at = self.file.unwrap_or(self.review);
        let cgroups = self.cgroups.then_some(self.cgroups_from);
        for other in [cgroups, self.look].into_iter().flatten() {
            at = at.min(other);
        }
        at.saturating_duration_since(Instant::now())
    }
}

pub(crate) fn is_due(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}
