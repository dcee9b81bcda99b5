//! The loop of `vipnat run`: makes the kernel follow the source, and reconciles when something else changed.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use sd_notify::NotifyState;
use vipnat_core::{
    table::{Difference, Table, TableChanges, TableIndex},
    text::{count, shown},
};

use super::{
    cgroup_watch::CgroupWatch,
    inbox::{Inbox, News},
    reading::{Ask, Reading, Update},
    reconciler::{Done, LinksReviewed, Reconciler},
    report::Report,
    reporter::Reporter,
    retry::Retry,
    schedule::Schedule,
    service_manager::notify_manager,
    source::Source,
};
use crate::input::with_reasons;
use crate::{
    kernel::{error, worker::may_hang},
    reconcile::Session,
};

/// The time after which everything is checked, even if no event came.
const REVIEW: Duration = Duration::from_secs(30);

/// Keeps the kernel in line with the last valid table.
pub(crate) struct Follower {
    source: Box<dyn Source>,
    inbox: Arc<Inbox<News>>,
    reconciler: Reconciler,
    reporter: Reporter,
    schedule: Schedule,
    retry: Retry,
    /// The numbers of apps and relationships of the table.
    counts: (usize, usize),
    /// The last valid table. The source shares it, and drops it when another is in force.
    table: Option<Arc<Table>>,
    /// The index of the table, once the source has told of single changes.
    index: Option<TableIndex>,
    /// The source was asked for a review, and has not answered.
    asked: bool,
    /// After the source answered, the state is read back.
    reviewing: bool,
}

impl Follower {
    /// Prepares to follow; [`Follower::follow`] does the work.
    pub(crate) fn new(
        source: Box<dyn Source>,
        session: Session,
        report: Box<dyn Report>,
        inbox: Arc<Inbox<News>>,
        cgroups: CgroupWatch,
    ) -> Self {
        Self {
            source,
            inbox,
            reconciler: Reconciler::new(session, cgroups),
            reporter: Reporter::new(report),
            schedule: Schedule::new(),
            retry: Retry::default(),
            counts: (0, 0),
            table: None,
            index: None,
            asked: false,
            reviewing: false,
        }
    }

    /// Applies the table and follows it until the inbox says to stop.
    ///
    /// # Errors
    ///
    /// If the first table cannot be read or applied, and no table was in force before. Later failures
    /// are reported.
    pub(crate) fn follow(mut self) -> Result<()> {
        self.start()?;
        loop {
            let news = self.inbox.wait(self.schedule.pause());
            if news.stop {
                return Ok(());
            }
            self.take_news(news);
            self.do_what_is_due();
        }
    }

    /// Applies the first table.
    fn start(&mut self) -> Result<()> {
        self.source.start(&self.inbox)?;
        let inbox = &self.inbox;
        let first = || inbox.wait_for(|news| news.reading.take());
        let Reading { update, exposed, unwatched, answers: _ } =
            may_hang(|| self.source.name(), first);
        self.reporter.set_exposed(exposed);
        match update {
            Ok(Update::Table { table, difference: _ }) => self.table = Some(table),
            // The first reading has a table.
            Ok(Update::Same | Update::Changes(_)) => {}
            // A table is in force already, and the user may correct the source.
            Err(error) if self.reconciler.is_applied() => self.reporter.refuse(&error),
            Err(error) => return Err(error),
        }
        let mut problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        match self.reconcile() {
            Ok(failed) => problems.extend(failed),
            Err(error) if !self.reconciler.is_applied() => return Err(error),
            Err(error) if does_not_fit(&error) => {
                self.reporter.refuse(&error);
                self.table = None;
            }
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.report_and_schedule(problems);
        self.reporter.following(&self.source.name());
        notify_manager(&[NotifyState::Ready]);
        self.source.go_on(self.table.as_ref());
        Ok(())
    }

    /// Schedules what follows from events.
    fn take_news(&mut self, news: News) {
        let News { stop: _, reload, reading, cgroups, reclaimable } = news;
        if cgroups {
            self.schedule.schedule_cgroups();
        }
        for reclaimable in reclaimable {
            if self.reconciler.end_reclaim(reclaimable.as_ref()) {
                self.schedule.schedule_reclaim();
            }
        }
        if reload {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            notify_manager(&states);
            self.source.read(Ask { reload: true, ..Ask::default() });
        }
        if let Some(reading) = reading {
            self.apply_reading(reading);
        }
    }

    fn do_what_is_due(&mut self) {
        if self.schedule.cgroups_due() {
            self.follow_cgroups();
        }
        if self.schedule.links_due() {
            self.review_links();
        }
        if self.schedule.review_due() {
            self.review();
        } else if self.schedule.reconcile_due() {
            self.reconcile_and_report(Vec::new());
        }
        if self.schedule.drains_due() {
            self.end_drained();
        }
        if self.schedule.reclaim_due() {
            self.begin_reclaim();
        }
    }

    /// Makes the kernel follow what the source says, or keeps the table in force and reports why.
    fn apply_reading(&mut self, reading: Reading) {
        let Reading { update, exposed, unwatched, answers: Ask { review, reload } } = reading;
        self.asked &= !review;
        self.reviewing = review || reload;
        self.reporter.set_exposed(exposed);
        let problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        match update {
            Ok(Update::Same) => self.keep_table(problems),
            Ok(Update::Table { table, difference }) => {
                self.reporter.accept();
                self.follow_table(table, difference.as_ref(), problems);
            }
            Ok(Update::Changes(changes)) => self.follow_changes(changes, problems),
            Err(error) => {
                self.reporter.refuse(&error);
                self.keep_table(problems);
            }
        }
        self.reviewing = false;
        self.source.go_on(self.table.as_ref());
        if reload {
            notify_manager(&[NotifyState::Ready]);
        }
    }

    /// Makes the kernel follow a new table. If it does not fit, the one before stays in force.
    fn follow_table(
        &mut self,
        table: Arc<Table>,
        difference: Option<&Difference>,
        problems: Vec<String>,
    ) {
        let before = self.table.replace(table);
        let index = self.index.take();
        let Some(difference) = difference else {
            return self.reconcile_and_report(problems);
        };
        self.follow_difference(difference, problems, |follower| {
            (follower.table, follower.index) = (before, index);
        });
    }

    /// Makes the kernel follow changes of the table in force. If they do not fit, it stays as it was.
    fn follow_changes(&mut self, changes: TableChanges, problems: Vec<String>) {
        let Some(table) = &mut self.table else {
            // Only a source that breaks its word does that.
            return self.keep_table(problems);
        };
        let table = Arc::make_mut(table);
        let index = self.index.get_or_insert_with(|| TableIndex::of(table));
        match table.change(index, changes, &self.source.name()) {
            Ok((difference, undo)) => {
                self.reporter.accept();
                self.follow_difference(&difference, problems, |follower| follower.undo(undo));
            }
            Err(error) => {
                self.reporter.refuse(&error.into());
                self.keep_table(problems);
            }
        }
    }

    /// Makes the kernel follow the table, which has this difference to the one before. If it does not fit,
    /// `restore` brings that back.
    fn follow_difference(
        &mut self,
        difference: &Difference,
        mut problems: Vec<String>,
        restore: impl FnOnce(&mut Self),
    ) {
        let Some(table) = self.table.as_ref().filter(|_| !difference.is_empty()) else {
            return self.keep_table(problems);
        };
        match self.reconciler.change(table, difference, &mut self.reporter) {
            Ok(Done { all: false, .. }) => {
                if !difference.apps.is_empty() {
                    self.count_table();
                }
                self.keep_table(problems);
            }
            Ok(Done { problems: found, all: true }) => {
                problems.extend(found);
                self.count_table();
                self.report_and_schedule(problems);
            }
            Err(error) if does_not_fit(&error) => {
                self.reporter.refuse(&error);
                restore(self);
                self.reconcile_and_report(problems);
            }
            Err(error) => {
                problems.push(with_reasons(&error));
                self.report_and_schedule(problems);
            }
        }
    }

    /// Brings back the table before the last change.
    fn undo(&mut self, undo: TableChanges) {
        if let (Some(table), Some(index)) = (&mut self.table, &mut self.index) {
            // It was valid before.
            let undone = Arc::make_mut(table).change(index, undo, &self.source.name());
            debug_assert!(undone.is_ok(), "{undone:?}");
        }
    }

    /// Goes on with a table that the kernel follows already. Reads the state back if a review is due.
    fn keep_table(&mut self, mut problems: Vec<String>) {
        if self.reviewing {
            return self.review_and_report(problems);
        }
        problems.extend(self.reconciler.problems().iter().cloned());
        let first = self.reporter.more_problems(problems);
        self.tell_status(first);
        self.schedule_after_change();
    }

    /// Attaches cgroups that came and detaches those that went. Schedules a reconciliation if more is
    /// needed; an error shows again there, or is gone.
    fn follow_cgroups(&mut self) {
        let begun = Instant::now();
        let complete = self.reconciler.follow_cgroups(&mut self.reporter);
        if !matches!(complete, Ok(true)) {
            self.schedule.schedule_reconcile(begun.max(self.reconciler.calm()));
        }
        let has_more = self.reconciler.has_more_cgroups();
        self.schedule.schedule_cgroups_after(begun.elapsed(), has_more);
    }

    /// Reads everything back, although no event came: first the source, then the state.
    fn review(&mut self) {
        if !self.asked {
            // If the source hangs, the review is due again then.
            self.schedule.delay_review(Instant::now() + REVIEW);
            self.asked = true;
            return self.source.read(Ask { review: true, ..Ask::default() });
        }
        self.reporter.refuse_for(&self.source.slow());
        self.review_and_report(Vec::new());
    }

    /// Makes the kernel match the last valid table, and reads everything back.
    fn reconcile_and_report(&mut self, mut problems: Vec<String>) {
        match self.reconcile() {
            Ok(found) => problems.extend(found),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.report_and_schedule(problems);
    }

    /// Reads the state back, and repairs what another program changed.
    fn review_and_report(&mut self, mut problems: Vec<String>) {
        match self.reconciler.review(self.table.as_deref(), &mut self.reporter) {
            Ok(found) => problems.extend(found),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.report_and_schedule(problems);
        self.schedule.schedule_links(Duration::ZERO, self.reconciler.reviews_links());
        // The review may have found cgroups whose events were lost.
        if self.reconciler.has_more_cgroups() {
            self.schedule.schedule_cgroups();
        }
    }

    /// Goes on with the review of the links, for a moment: containers may wait to be attached.
    fn review_links(&mut self) {
        let begun = Instant::now();
        let reviewed = self.reconciler.review_links(&mut self.reporter);
        let has_more = reviewed == LinksReviewed::More;
        self.schedule.schedule_links(begun.elapsed(), has_more);
        if reviewed == LinksReviewed::Wrong {
            self.reconcile_and_report(Vec::new());
        }
        if self.reconciler.has_more_cgroups() {
            self.schedule.schedule_cgroups();
        }
    }

    /// Ends connections that have had their time to drain.
    fn end_drained(&mut self) {
        let mut problems = Vec::new();
        self.reconciler.end_drained(&mut problems, &mut self.reporter);
        problems.into_iter().for_each(|problem| self.reporter.problem(problem));
        self.schedule.schedule_drains(self.reconciler.drained());
    }

    /// Begins to free retired slots. The wait for running programs is on a thread of its own.
    fn begin_reclaim(&mut self) {
        self.schedule.cancel_reclaim();
        let Some(reclaiming) = self.reconciler.begin_reclaim() else {
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        thread::spawn(move || {
            let waited = reclaiming.wait().ok();
            inbox.tell(|news| news.reclaimable.push(waited));
        });
    }

    /// Makes the kernel match the last valid table. Returns the problems that do not stop it.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        self.count_table();
        self.reconciler.reconcile(self.table.as_deref(), &mut self.reporter)
    }

    /// Reports problems, each once, and schedules the next review. It comes sooner after a problem. A
    /// rejected table is no problem here: it is not tried again until the source has another, or a reload.
    fn report_and_schedule(&mut self, problems: Vec<String>) {
        let pause = if problems.is_empty() {
            self.retry.succeeded();
            REVIEW
        } else {
            self.retry.failed()
        };
        let first = self.reporter.problems(problems);
        self.tell_status(first);
        self.schedule.schedule_review(Instant::now() + pause);
        self.schedule_after_change();
    }

    /// Tells the service manager the first problem, if there is one.
    fn tell_status(&self, first_problem: Option<String>) {
        let status = first_problem.unwrap_or_else(|| self.status());
        notify_manager(&[NotifyState::Status(&shown(&status))]);
    }

    /// Counts the apps and relationships of the table, for the status.
    fn count_table(&mut self) {
        let apps = self.table.iter().flat_map(|table| table.apps.values());
        let relationships = apps.clone().map(|app| app.relationships.groups().count()).sum();
        self.counts = (apps.count(), relationships);
    }

    /// Schedules what follows from a change.
    fn schedule_after_change(&mut self) {
        self.schedule.schedule_drains(self.reconciler.drained());
        self.schedule.schedule_reclaim();
    }

    fn status(&self) -> String {
        let (apps, relationships) = self.counts;
        format!(
            "{} and {}, from {}",
            count(apps, "app"),
            count(relationships, "relationship"),
            self.source.name()
        ) + &self.repairs()
    }

    /// How often another program had changed the state, for the status.
    fn repairs(&self) -> String {
        match self.reconciler.repairs() {
            0 => String::new(),
            repairs => format!("; repaired changes of other programs: {repairs}"),
        }
    }
}

/// Whether a table was rejected before any change, since a map is too small for it.
fn does_not_fit(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(error::Error::Full(_)))
}
