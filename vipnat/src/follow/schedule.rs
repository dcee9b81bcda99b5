//! The next actions of `vipnat run`, and their times.

use std::time::{Duration, Instant};

/// The shortest and the longest pause between two looks at cgroups. In between it is as long as the last
/// look took, so that other processes can attach cgroups as well.
const CGROUP_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// The time between a change and the freeing of the slots that it retired. Related changes come until then.
const IDLE: Duration = Duration::from_secs(1);

/// The times of the next actions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// The time to read and reconcile everything, even if nothing happened.
    review: Instant,
    /// Whether to look at cgroups that came or went.
    cgroups: bool,
    /// The earliest time to look at cgroups.
    cgroups_from: Instant,
    /// The time to reconcile without a read.
    reconcile: Option<Instant>,
    /// The time to end connections that have drained.
    drains: Option<Instant>,
    /// The time to free retired slots.
    reclaim: Option<Instant>,
    /// The time to go on with the review of the links.
    links: Option<Instant>,
}

impl Schedule {
    /// A review is due now, and nothing else.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            review: now,
            cgroups: false,
            cgroups_from: now,
            reconcile: None,
            drains: None,
            reclaim: None,
            links: None,
        }
    }

    /// Schedules a look at cgroups.
    pub(crate) fn schedule_cgroups(&mut self) {
        self.cgroups = true;
    }

    /// Schedules the next look at cgroups, after one that took this long.
    pub(crate) fn schedule_cgroups_after(&mut self, took: Duration, has_more: bool) {
        self.cgroups = has_more;
        self.cgroups_from = Instant::now() + took.clamp(CGROUP_PAUSE.0, CGROUP_PAUSE.1);
    }

    /// Schedules a reconciliation without a read, unless one is scheduled already.
    pub(crate) fn schedule_reconcile(&mut self, at: Instant) {
        self.reconcile.get_or_insert(at);
    }

    /// Schedules the end of connections that drain, or cancels it.
    pub(crate) fn schedule_drains(&mut self, at: Option<Instant>) {
        self.drains = at;
    }

    /// Schedules the freeing of retired slots soon. Further changes do not delay it, since they might never
    /// end, and maps that are full of retired slots would need a full apply.
    pub(crate) fn schedule_reclaim(&mut self) {
        self.reclaim.get_or_insert(Instant::now() + IDLE);
    }

    /// Cancels the freeing of retired slots, which begins now.
    pub(crate) fn cancel_reclaim(&mut self) {
        self.reclaim = None;
    }

    /// Schedules the next part of the review of the links, after one that took this long, or ends it.
    pub(crate) fn schedule_links(&mut self, took: Duration, has_more: bool) {
        let pause = took.clamp(CGROUP_PAUSE.0, CGROUP_PAUSE.1);
        self.links = has_more.then(|| Instant::now() + pause);
    }

    /// Schedules the next review. A reconciliation was just made.
    pub(crate) fn schedule_review(&mut self, at: Instant) {
        self.review = at;
        self.reconcile = None;
    }

    /// Delays the review. Nothing was reconciled yet.
    pub(crate) fn delay_review(&mut self, at: Instant) {
        self.review = at;
    }

    /// The time during which nothing is due.
    pub(crate) fn pause(&self) -> Duration {
        let mut at = self.review;
        let cgroups = self.cgroups.then_some(self.cgroups_from);
        let others = [cgroups, self.reconcile, self.drains, self.reclaim, self.links];
        for other in others.into_iter().flatten() {
            at = at.min(other);
        }
        at.saturating_duration_since(Instant::now())
    }

    /// Whether to look at cgroups now.
    pub(crate) fn cgroups_due(&self) -> bool {
        self.cgroups && is_due(self.cgroups_from)
    }

    /// Whether to review now.
    pub(crate) fn review_due(&self) -> bool {
        is_due(self.review)
    }

    /// Whether to end connections that have drained.
    pub(crate) fn drains_due(&self) -> bool {
        self.drains.is_some_and(is_due)
    }

    /// Whether to free retired slots.
    pub(crate) fn reclaim_due(&self) -> bool {
        self.reclaim.is_some_and(is_due)
    }

    /// Whether to go on with the review of the links.
    pub(crate) fn links_due(&self) -> bool {
        self.links.is_some_and(is_due)
    }

    /// Whether to reconcile now without a read.
    pub(crate) fn reconcile_due(&self) -> bool {
        self.reconcile.is_some_and(is_due)
    }
}

fn is_due(at: Instant) -> bool {
    at <= Instant::now()
}
