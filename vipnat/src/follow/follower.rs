//! The loop of `vipnat run`: reads the file and reconciles when something changed.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use sd_notify::NotifyState;
use vipnat_core::{
    table::Table,
    text::{count, shown},
};

use super::{
    cgroup_watch::CgroupWatch,
    file_watch::FileWatch,
    inbox::{Inbox, News},
    reading::Reading,
    reconciler::Reconciler,
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
        let News { stop: _, reload, reading, changed, written, cgroups } = news;
        if written {
            self.schedule.schedule_read_after_writes();
        }
        if changed {
            self.schedule.schedule_read_soon();
        }
        if cgroups {
            self.schedule.schedule_cgroups();
        }
        if reload {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            notify_manager(&states);
            self.reloading = true;
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
            self.reconcile_and_report();
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
        let mut problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        let mut before = None;
        match table {
            Ok(table) => {
                self.reporter.accept();
                before = self.table.replace(table);
            }
            Err(error) => self.reporter.refuse(&error),
        }
        let mut done = self.reconcile();
        if let Err(error) = &done
            && does_not_fit(error)
            && before.is_some()
        {
            self.reporter.refuse(error);
            self.table = before;
            done = self.reconcile();
        }
        match done {
            Ok(failed) => problems.extend(failed),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.report_and_schedule(problems);
        if self.read_again {
            self.read_again = false;
            self.read();
        } else if self.reloading {
            self.reloading = false;
            notify_manager(&[NotifyState::Ready]);
        }
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
            return self.read();
        }
        self.reporter.refuse_slow(self.source.path());
        self.reconcile_and_report();
    }

    fn reconcile_and_report(&mut self) {
        let problems = self.reconcile().unwrap_or_else(|error| vec![with_reasons(&error)]);
        self.report_and_schedule(problems);
    }

    /// Makes the kernel match the last valid table. Returns the problems that do not stop it.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        self.reconciler.reconcile(self.table.as_ref(), &mut self.reporter)
    }

    /// Reports problems, each once, and schedules the next review. It comes sooner after a problem, or if
    /// connections have had their time to drain. A rejected table is no problem here: it is not tried
    /// again until its file changes.
    fn report_and_schedule(&mut self, problems: Vec<String>) {
        let pause = if problems.is_empty() {
            self.retry.succeeded();
            REVIEW
        } else {
            self.retry.failed()
        };
        let status = self.reporter.problems(problems).unwrap_or_else(|| self.status());
        notify_manager(&[NotifyState::Status(&shown(&status))]);
        let at = Instant::now() + pause;
        self.schedule.schedule_review(self.reconciler.drained().map_or(at, |due| at.min(due)));
    }

    fn status(&self) -> String {
        let apps = self.table.iter().flat_map(|table| table.apps.values());
        let relationships = apps.clone().map(|app| app.relationships.groups().count()).sum();
        format!(
            "{} and {}, from {}",
            count(apps.count(), "app"),
            count(relationships, "relationship"),
            self.source.path().display()
        )
    }
}

/// Whether a table was rejected before any change, since a map is too small for it.
fn does_not_fit(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(error::Error::Full(_)))
}
