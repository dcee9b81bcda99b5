//! Makes the kernel match the table, and attaches cgroups that come in between.

use std::time::{Duration, Instant};

use anyhow::Result;
use vipnat_core::table::Table;

use super::{
    cgroup_watch::CgroupWatch,
    cgroup_watch_set::{CgroupChanges, CgroupWatchSet},
    reporter::Reporter,
    retry,
};
use crate::input::with_reasons;
use crate::{
    kernel::error,
    reconcile::{Applied, Drained, FollowedCgroups, MissingCgroup, Session},
};

/// After a reconciliation, events cause no other one for this many times as long as it took.
const SHARE: u32 = 4;

/// The session, the cgroups that it attaches, and the times that follow from its work.
pub(crate) struct Reconciler {
    session: Session,
    cgroups: CgroupWatchSet,
    /// The time at which the next connections have had their time to drain.
    drained: Option<Instant>,
    /// The earliest time at which events may cause a reconciliation again.
    calm: Instant,
}

impl Reconciler {
    pub(crate) fn new(session: Session, cgroups: CgroupWatch) -> Self {
        Self { session, cgroups: CgroupWatchSet::new(cgroups), drained: None, calm: Instant::now() }
    }

    /// Whether a table is in force.
    pub(crate) fn is_applied(&self) -> bool {
        self.session.is_applied()
    }

    /// The time at which the next connections have had their time to drain.
    pub(crate) fn drained(&self) -> Option<Instant> {
        self.drained
    }

    /// The earliest time at which events may cause a reconciliation again.
    pub(crate) fn calm(&self) -> Instant {
        self.calm
    }

    /// Whether some cgroups that came or went are not looked at yet.
    pub(crate) fn has_more_cgroups(&self) -> bool {
        self.cgroups.has_more()
    }

    /// Makes the kernel match the table. Returns the problems that do not stop it.
    ///
    /// # Errors
    ///
    /// If the table could not be applied.
    pub(crate) fn reconcile(
        &mut self,
        table: Option<&Table>,
        reporter: &mut Reporter,
    ) -> Result<Vec<String>> {
        let begun = Instant::now();
        let done = self.apply(table, reporter);
        self.calm = Instant::now() + begun.elapsed() * SHARE;
        done
    }

    fn apply(&mut self, table: Option<&Table>, reporter: &mut Reporter) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let mut found = None;
        let applied = match table {
            Some(table) => {
                let (there, failed) = self.cgroups.watch_table(&self.session, table);
                problems.extend(failed.as_ref().map(with_reasons));
                found = Some(there);
                self.session.apply(table, MissingCgroup::Wait)
            }
            None => Ok(Applied::default()),
        };
        reporter.begin();
        self.end_drained(&mut problems, reporter);
        let applied = applied?;
        reporter.applied(&applied);
        let Applied { warnings, failed, .. } = applied;
        reporter.warn(&warnings);
        problems.extend(failed.into_iter().map(|error| with_reasons(&error.into())));
        if let Some(found) = found
            && let Err(error) = self.cgroups.update_holders(&self.session, found)
        {
            problems.push(with_reasons(&error));
        }
        Ok(problems)
    }

    /// Ends connections that have had their time to drain, even if the apply failed.
    fn end_drained(&mut self, problems: &mut Vec<String>, reporter: &mut Reporter) {
        self.drained = None;
        match self.session.end_drained() {
            Ok(Drained { ended, warnings, next }) => {
                reporter.warn(&warnings);
                reporter.ended(&ended);
                self.drained = next.map(|time: Duration| Instant::now() + time.max(retry::FIRST));
            }
            Err(error) => problems.push(with_reasons(&error.into())),
        }
    }

    /// Attaches and detaches cgroups that came or went since the last call, or a part of them. Returns
    /// whether that was enough; otherwise a reconciliation is needed.
    ///
    /// # Errors
    ///
    /// If the changes cannot be determined.
    pub(crate) fn follow_cgroups(&mut self, reporter: &mut Reporter) -> Result<bool> {
        let CgroupChanges { came, went, contested, lost } =
            self.cgroups.take_changes(&self.session)?;
        let mut complete = !lost;
        if !came.is_empty() || !went.is_empty() {
            let FollowedCgroups { changes, failed, needs_apply } =
                self.session.follow_cgroups(&mut self.cgroups.holders, &went, &came);
            self.cgroups.record_attached(came);
            reporter.applied(&Applied { changes, ..Applied::default() });
            // The reconciliation tries the failed ones again, and reports them.
            complete &= !needs_apply && failed.is_empty();
        }
        for (cgroup, apps) in contested {
            let error = error::Error::Contested { cgroup, apps };
            reporter.problem(with_reasons(&error.into()));
        }
        Ok(complete)
    }
}
