//! The loop of `vipnat run`: reads the file and reconciles when something changed.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use sd_notify::NotifyState;
use vipnat_core::{
    table::{Difference, Table},
    text::{count, shown},
};

use super::{
    cgroup_watch::CgroupWatch,
    file_watch::FileWatch,
    inbox::{Inbox, News},
    reading::Reading,
    reconciler::{Done, Reconciler},
    report::Report,
    reporter::Reporter,
    retry::Retry,
    schedule::Schedule,
    service_manager::notify_manager,
    source::FileSource,
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
    source: FileSource,
    inbox: Arc<Inbox>,
    /// The thread that reads the file uses it, and may hang.
    files: Arc<Mutex<FileWatch>>,
    reconciler: Reconciler,
    reporter: Reporter,
    schedule: Schedule,
    retry: Retry,
    /// The last valid table.
    table: Option<Table>,
    /// A thread is reading the file.
    reading: bool,
    /// The file changed again while it was read.
    read_again: bool,
    /// After the file is read, the state is read back.
    reviewing: bool,
    /// The service manager waits for the end of a reload.
    reloading: bool,
}

impl Follower {
    /// Prepares to follow; [`Follower::follow`] does the work.
    pub(crate) fn new(
        source: FileSource,
        session: Session,
        report: Box<dyn Report>,
        inbox: Arc<Inbox>,
        files: FileWatch,
        cgroups: CgroupWatch,
    ) -> Self {
        Self {
            source,
            inbox,
            files: Arc::new(Mutex::new(files)),
            reconciler: Reconciler::new(session, cgroups),
            reporter: Reporter::new(report),
            schedule: Schedule::new(),
            retry: Retry::default(),
            table: None,
            reading: false,
            read_again: false,
            reviewing: false,
            reloading: false,
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

    /// Reads and applies the first table.
    fn start(&mut self) -> Result<()> {
        let (source, files) = (&self.source, &self.files);
        let what = || source.path().display().to_string();
        let Reading { table, exposed, unwatched } = may_hang(what, || Reading::of(source, files));
        self.reporter.set_exposed(exposed);
        match table {
            Ok(table) => self.table = Some(table),
            // A table is in force already, and the user may correct the file.
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
        self.reporter.following(self.source.path());
        notify_manager(&[NotifyState::Ready]);
        Ok(())
    }

    /// Schedules what follows from events.
    fn take_news(&mut self, news: News) {
        let News { stop: _, reload, reading, changed, written, cgroups, reclaimable } = news;
        if written {
            self.schedule.schedule_read_after_writes();
        }
        if changed {
            self.schedule.schedule_read_soon();
        }
        if cgroups {
            self.schedule.schedule_cgroups();
        }
        if let Some(reclaimable) = reclaimable
            && self.reconciler.end_reclaim(&reclaimable)
        {
            self.schedule.schedule_reclaim();
        }
        if reload {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            notify_manager(&states);
            self.reloading = true;
            self.reviewing = true;
            self.read();
        }
        if let Some(reading) = reading {
            self.apply_reading(reading);
        }
    }

    fn do_what_is_due(&mut self) {
        // Cgroups do not wait for a file that is being written.
        if self.schedule.cgroups_due() {
            self.follow_cgroups();
        }
        if self.schedule.read_due() {
            self.read();
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

    /// Begins to read the file, on a thread of its own since that may hang.
    fn read(&mut self) {
        self.schedule.cancel_read();
        if self.reading {
            self.read_again = true;
            return;
        }
        self.reading = true;
        let (source, files) = (self.source.clone(), Arc::clone(&self.files));
        let inbox = Arc::clone(&self.inbox);
        thread::spawn(move || {
            let reading = Reading::of(&source, &files);
            inbox.tell(|news| news.reading = Some(reading));
        });
    }

    /// Applies the table that was read, or keeps the one before and reports why.
    fn apply_reading(&mut self, reading: Reading) {
        self.reading = false;
        let Reading { table, exposed, unwatched } = reading;
        self.reporter.set_exposed(exposed);
        let problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        match table {
            Ok(table) => {
                self.reporter.accept();
                self.follow_table(table, problems);
            }
            Err(error) => {
                self.reporter.refuse(&error);
                self.keep_table(problems);
            }
        }
        self.reviewing = false;
        if self.read_again {
            self.read_again = false;
            self.read();
        } else if self.reloading {
            self.reloading = false;
            notify_manager(&[NotifyState::Ready]);
        }
    }

    /// Makes the kernel follow a new table. If it does not fit, the one before stays in force.
    fn follow_table(&mut self, table: Table, mut problems: Vec<String>) {
        let Some(before) = self.table.take() else {
            self.table = Some(table);
            return self.reconcile_and_report(problems);
        };
        let difference = Difference::between(&before, &table);
        let table = self.table.insert(table);
        if difference.is_empty() {
            return self.keep_table(problems);
        }
        match self.reconciler.change(table, &difference, &mut self.reporter) {
            Ok(Done { all: false, .. }) => self.keep_table(problems),
            Ok(Done { problems: found, all: true }) => {
                problems.extend(found);
                self.report_and_schedule(problems);
            }
            Err(error) if does_not_fit(&error) => {
                self.reporter.refuse(&error);
                self.table = Some(before);
                self.reconcile_and_report(problems);
            }
            Err(error) => {
                problems.push(with_reasons(&error));
                self.report_and_schedule(problems);
            }
        }
    }

    /// Goes on with a table that the kernel follows already. Reads the state back if a review is due.
    fn keep_table(&mut self, mut problems: Vec<String>) {
        if self.reviewing {
            return self.review_and_report(problems);
        }
        problems.extend(self.reconciler.problems().iter().cloned());
        self.report(problems);
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

    /// Reads the file and reconciles, although no event came.
    fn review(&mut self) {
        if !self.reading {
            // If the read hangs, the review is due again then.
            self.schedule.delay_review(Instant::now() + REVIEW);
            self.reviewing = true;
            return self.read();
        }
        self.reporter.refuse_slow(self.source.path());
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
        match self.reconciler.review(self.table.as_ref(), &mut self.reporter) {
            Ok(found) => problems.extend(found),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.report_and_schedule(problems);
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
            // If this fails, the next full apply frees them.
            if let Ok(reclaimable) = reclaiming.wait() {
                inbox.tell(|news| news.reclaimable = Some(reclaimable));
            }
        });
    }

    /// Makes the kernel match the last valid table. Returns the problems that do not stop it.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        self.reconciler.reconcile(self.table.as_ref(), &mut self.reporter)
    }

    /// Reports problems, each once, and schedules the next review. It comes sooner after a problem. A
    /// rejected table is no problem here: it is not tried again until its file changes.
    fn report_and_schedule(&mut self, problems: Vec<String>) {
        let pause = if problems.is_empty() {
            self.retry.succeeded();
            REVIEW
        } else {
            self.retry.failed()
        };
        self.report(problems);
        self.schedule.schedule_review(Instant::now() + pause);
        self.schedule_after_change();
    }

    /// Reports problems, each once.
    fn report(&mut self, problems: Vec<String>) {
        let status = self.reporter.problems(problems).unwrap_or_else(|| self.status());
        notify_manager(&[NotifyState::Status(&shown(&status))]);
    }

    /// Schedules what follows from a change.
    fn schedule_after_change(&mut self) {
        self.schedule.schedule_drains(self.reconciler.drained());
        self.schedule.schedule_reclaim();
    }

    fn status(&self) -> String {
        let apps = self.table.iter().flat_map(|table| table.apps.values());
        let relationships = apps.clone().map(|app| app.relationships.groups().count()).sum();
        format!(
            "{} and {}, from {}",
            count(apps.count(), "app"),
            count(relationships, "relationship"),
            self.source.path().display()
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
