//! Makes the kernel match the table, and attaches cgroups that come in between.

use std::time::{Duration, Instant};

use anyhow::Result;
use vipnat_core::table::{Difference, Table};

use super::{
    cgroup_watch::CgroupWatch,
    cgroup_watch_set::{CgroupChanges, CgroupWatchSet, FoundCgroups},
    reporter::Reporter,
    retry,
};
use crate::input::with_reasons;
use crate::{
    kernel::error,
    reconcile::{
        Applied, Drained, FollowedCgroups, LinkDifference, LinkReview, Live, MissingCgroup,
        Reclaimable, Reclaiming, Review, ReviewedLinks, Session,
    },
};

/// After a reconciliation, events cause no other one for this many times as long as it took.
const SHARE: u32 = 4;

/// What a change led to.
pub(crate) struct Done {
    /// The problems that do not stop it.
    pub(crate) problems: Vec<String>,
    /// Everything was read back.
    pub(crate) all: bool,
}

/// A review of the links, and what it has found so far.
#[derive(Default)]
struct LinksInReview {
    review: LinkReview,
    differences: Vec<LinkDifference>,
    needs_apply: bool,
}

/// The state of a review of the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinksReviewed {
    /// There are more links to look at.
    More,
    /// All are as they were left.
    Right,
    /// Something is to be repaired by a full reconciliation.
    Wrong,
}

/// The session, the state that it keeps, the cgroups that it attaches, and the times that follow from its work.
pub(crate) struct Reconciler {
    session: Session,
    /// The state after the last change; `None` if the next change needs a full apply.
    live: Option<Live>,
    cgroups: CgroupWatchSet,
    /// The review of the links, while one goes on.
    links: Option<LinksInReview>,
    /// The problems of the last full reconciliation. Those that a change does not touch are still there.
    problems: Vec<String>,
    /// How many times the state had been changed by another program.
    repairs: u64,
    /// The time at which the next connections have had their time to drain.
    drained: Option<Instant>,
    /// The earliest time at which events may cause a reconciliation again.
    calm: Instant,
}

impl Reconciler {
    pub(crate) fn new(session: Session, cgroups: CgroupWatch) -> Self {
        Self {
            session,
            live: None,
            cgroups: CgroupWatchSet::new(cgroups),
            links: None,
            problems: Vec::new(),
            repairs: 0,
            drained: None,
            calm: Instant::now(),
        }
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

    /// The problems of the last full reconciliation.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How many times another program had changed the state.
    pub(crate) fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Reads everything back, and makes the kernel match the table. Returns the problems that do not stop
    /// it.
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
        self.problems = match &done {
            Ok(problems) => problems.clone(),
            Err(error) => vec![with_reasons(error)],
        };
        done
    }

    fn apply(&mut self, table: Option<&Table>, reporter: &mut Reporter) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let mut found = None;
        (self.live, self.links) = (None, None);
        reporter.begin();
        let Some(table) = table else {
            self.end_drained(&mut problems, reporter);
            return Ok(problems);
        };
        let FoundCgroups { cgroups, failed } = self.cgroups.watch_table(&self.session, table);
        problems.extend(failed.as_ref().map(with_reasons));
        found.replace(cgroups);
        let (applied, live) = match self.session.apply_and_keep(table, MissingCgroup::Wait) {
            Ok(done) => done,
            Err(error) => {
                // Connections end even if nothing else works.
                self.end_drained(&mut problems, reporter);
                return Err(error.into());
            }
        };
        self.live = live;
        self.report(applied, &mut problems, reporter);
        if let Some(found) = found
            && let Err(error) = self.cgroups.read_holders(&self.session, found)
        {
            problems.push(with_reasons(&error));
        }
        Ok(problems)
    }

    /// Makes the kernel follow a change of the table, at the cost of what it touches. If that is not
    /// possible, reads everything back. `table` is the new one. Returns the problems that do not stop it.
    ///
    /// # Errors
    ///
    /// If the table could not be applied.
    pub(crate) fn change(
        &mut self,
        table: &Table,
        difference: &Difference,
        reporter: &mut Reporter,
    ) -> Result<Done> {
        if let Some(live) = self.live.take()
            && self.change_live(live, table, difference, reporter)
        {
            return Ok(Done { problems: self.problems.clone(), all: false });
        }
        Ok(Done { problems: self.reconcile(Some(table), reporter)?, all: true })
    }

    /// Makes the change, and nothing else. Returns whether that was possible and complete.
    fn change_live(
        &mut self,
        live: Live,
        table: &Table,
        difference: &Difference,
        reporter: &mut Reporter,
    ) -> bool {
        let mut found = None;
        if difference.moves_apps() {
            let FoundCgroups { cgroups, failed } =
                self.cgroups.watch_apps(&self.session, table, moved(difference));
            if failed.is_some() {
                return false;
            }
            found = Some(cgroups);
        }
        let (applied, live) = self.session.change(live, table, difference);
        self.live = live;
        let mut failed = Vec::new();
        self.report(applied, &mut failed, reporter);
        let Some(live) = &self.live else {
            return false;
        };
        let updated = found.is_none_or(|found| {
            let apps = moved(difference);
            self.cgroups.update_holders(&self.session, live, apps, found).is_ok()
        });
        updated && failed.is_empty()
    }

    /// Reads the state back. Names what another program changed, and repairs it. If maps and pins are as the
    /// last change left them, it begins a review of the links, which [`Reconciler::review_links`] goes on
    /// with.
    ///
    /// # Errors
    ///
    /// If the table could not be applied.
    pub(crate) fn review(
        &mut self,
        table: Option<&Table>,
        reporter: &mut Reporter,
    ) -> Result<Vec<String>> {
        if let Some(live) = &self.live {
            match self.session.review(live) {
                // After a problem, only a full reconciliation shows whether it is still there.
                Ok(Review::Same)
                    if self.problems.is_empty() && self.cgroups.review(&self.session).is_none() =>
                {
                    self.links.get_or_insert_default();
                    return Ok(Vec::new());
                }
                Ok(Review::Differs(differences)) => {
                    self.repairs += 1;
                    reporter.repairs(&differences, self.repairs);
                }
                _ => {}
            }
        }
        self.reconcile(table, reporter)
    }

    /// Whether a review of the links goes on.
    pub(crate) fn reviews_links(&self) -> bool {
        self.links.is_some()
    }

    /// Looks at some more links. Names what another program changed, once all were looked at.
    pub(crate) fn review_links(&mut self, reporter: &mut Reporter) -> LinksReviewed {
        let Some(links) = &mut self.links else {
            return LinksReviewed::Right;
        };
        let reviewed = self.session.review_links(&mut self.cgroups.holders, &mut links.review);
        // An error shows again in the reconciliation, or is gone.
        let Ok(reviewed) = reviewed else {
            self.links = None;
            return LinksReviewed::Wrong;
        };
        let ReviewedLinks { done, differences, needs_apply, changes, by_hand, gone } = reviewed;
        links.differences.extend(differences);
        links.needs_apply |= needs_apply;
        reporter.applied(&Applied { changes, ..Applied::default() });
        let recorded = self.cgroups.record_reviewed(&self.session, by_hand, gone);
        links.needs_apply |= recorded.is_err();
        if !done {
            return LinksReviewed::More;
        }
        let LinksInReview { review: _, differences, needs_apply } =
            self.links.take().unwrap_or_default();
        // Otherwise another vipnat made them.
        if !differences.is_empty()
            && self.live.as_ref().is_some_and(|live| self.session.is_current(live))
        {
            self.repairs += 1;
            let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
            reporter.repairs(&differences, self.repairs);
        }
        let right = differences.is_empty() && !needs_apply;
        if right { LinksReviewed::Right } else { LinksReviewed::Wrong }
    }

    /// Begins to free retired slots; `None` if there are none.
    pub(crate) fn begin_reclaim(&mut self) -> Option<Reclaiming> {
        self.session.begin_reclaim(self.live.as_mut()?)
    }

    /// Frees retired slots after the wait, which failed if there are none. Returns whether there are more.
    pub(crate) fn end_reclaim(&mut self, reclaimable: Option<&Reclaimable>) -> bool {
        let Some(live) = &mut self.live else {
            return false;
        };
        match reclaimable {
            Some(reclaimable) if self.session.end_reclaim(live, reclaimable) => {}
            Some(_) => self.live = None,
            None => self.session.cancel_reclaim(live),
        }
        self.live.as_ref().is_some_and(Live::has_retired)
    }

    /// Reports what an apply did, and adds the reasons why apps could not be attached.
    fn report(&mut self, applied: Applied, problems: &mut Vec<String>, reporter: &mut Reporter) {
        reporter.applied(&applied);
        let Applied { warnings, failed, next_due, .. } = applied;
        reporter.warn(&warnings);
        self.drained = next_due.map(|time| Instant::now() + time.max(retry::FIRST));
        problems.extend(failed.into_iter().map(|error| with_reasons(&error.into())));
    }

    /// Ends connections that have had their time to drain, and adds a problem if that fails.
    pub(crate) fn end_drained(&mut self, problems: &mut Vec<String>, reporter: &mut Reporter) {
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
            let problem = with_reasons(&error.into());
            // The next review looks whether it is still there.
            self.problems.push(problem.clone());
            reporter.problem(problem);
        }
        Ok(complete)
    }
}

/// The apps that have other cgroups after a change.
fn moved(difference: &Difference) -> impl Iterator<Item = &str> {
    difference.apps.iter().filter(|(_, app)| app.moves()).map(|(name, _)| name.as_str())
}
