//! The loop of `vipnat run`: what changed is read, and made so.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result};
use sd_notify::NotifyState;

use super::Event;
use crate::{
    cli::{
        apply::{describe_applied, describe_ended},
        complain, count, print, read_table, with_reasons,
    },
    datapath::{self, Absent, Applied, Datapath, Drained, Surroundings},
    source::{FileSource, Notice, Watch},
    table::Table,
    waits::may_hang,
};

/// How long after a change the table is read: long enough for what belongs together.
const SETTLE: Duration = Duration::from_micros(500);
/// How long a file that is being written may rest before it is read although it was not closed.
const WRITING: Duration = Duration::from_secs(1);
/// How often everything is looked at again, whatever was noticed.
const REVIEW: Duration = Duration::from_secs(30);
/// The first and the longest pause after something failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Keeps the kernel as the last good table says.
pub(super) struct Follower {
    source: FileSource,
    datapath: Datapath,
    watch: Watch,
    /// The last table that was good.
    table: Option<Table>,
    /// The cgroups that were there when it was applied, and where others show.
    around: Surroundings,
    /// When the next connections have had their time to drain.
    drained: Option<Instant>,
    /// How many things failed the last time.
    problems: usize,
    /// How long to wait after the next failure.
    pause: Duration,
    /// Why the file is not what is in force, if it is not.
    refusal: Option<String>,
    /// What was last complained of; it is not repeated.
    complaints: Vec<String>,
}

/// What to do next, and when.
#[derive(Clone, Copy)]
struct Next {
    /// Look at everything.
    review: Instant,
    /// Read the file, which changed.
    file: Option<Instant>,
    /// At the latest, however often it is written to meanwhile.
    latest: Option<Instant>,
    /// Look for cgroups, of which some came or went.
    cgroups: bool,
}

impl Follower {
    /// Has done nothing yet.
    pub(super) fn new(source: FileSource, datapath: Datapath, watch: Watch) -> Self {
        Self {
            source,
            datapath,
            watch,
            table: None,
            around: Surroundings::default(),
            drained: None,
            problems: 0,
            pause: RETRY.0,
            refusal: None,
            complaints: Vec::new(),
        }
    }

    /// Applies and follows until it is told to stop.
    ///
    /// # Errors
    ///
    /// If the first table can't be read or applied, and nothing was applied before. Later, failures are
    /// complained of.
    pub(super) fn follow(mut self, events: &Receiver<Event>) -> Result<()> {
        let watching = self.watch_places().err().map(|error| with_reasons(&error));
        match self.read() {
            Ok(table) => self.table = Some(table),
            // Something is in force already, and a file may be mended.
            Err(error) if self.datapath.is_applied() => self.refuse(&error),
            Err(error) => return Err(error),
        }
        let mut problems: Vec<_> = watching.into_iter().collect();
        match self.reconcile() {
            Ok(failed) => problems.extend(failed),
            Err(error) if !self.datapath.is_applied() => return Err(error),
            Err(error) if is_refused(&error) => {
                self.refuse(&error);
                self.table = None;
            }
            Err(error) => problems.push(with_reasons(&error)),
        }
        let mut next = self.account(problems);
        let _ = print(&format!("following {}\n", self.source.path().display()));
        notify_manager(&[NotifyState::Ready]);
        loop {
            match events.recv_timeout(next.pause()) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Event::Reload) => {
                    let mut states = vec![NotifyState::Reloading];
                    states.extend(NotifyState::monotonic_usec_now());
                    notify_manager(&states);
                    next = self.catch_up();
                    notify_manager(&[NotifyState::Ready]);
                }
                Ok(Event::Notice(notice)) => next.hear(notice),
                Err(RecvTimeoutError::Timeout) if next.only_cgroups() => {
                    next.cgroups = false;
                    if let Some(looked) = self.look_at_cgroups() {
                        // At once, whatever is being written to the file.
                        let review = next.review.min(looked.review);
                        next = Next { file: next.file, latest: next.latest, review, ..looked };
                    }
                }
                Err(RecvTimeoutError::Timeout) => next = self.catch_up(),
            }
        }
    }

    /// Reads what may have changed and makes it so, or says why not.
    fn catch_up(&mut self) -> Next {
        let mut problems = Vec::new();
        if let Err(error) = self.watch_places() {
            problems.push(with_reasons(&error));
        }
        let mut before = None;
        match self.read() {
            Ok(table) => {
                self.refusal = None;
                before = self.table.replace(table);
            }
            Err(error) => self.refuse(&error),
        }
        let mut done = self.reconcile();
        if let Err(error) = &done
            && is_refused(error)
            && before.is_some()
        {
            self.refuse(error);
            self.table = before;
            done = self.reconcile();
        }
        match done {
            Ok(failed) => problems.extend(failed),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.account(problems)
    }

    /// The same when only cgroups came or went; `None` if none of them is ours.
    fn look_at_cgroups(&mut self) -> Option<Next> {
        let known = self.around.cgroups.clone();
        let mut problems = Vec::new();
        match self.watch_places() {
            Ok(()) if self.problems == 0 && self.around.cgroups == known => return None,
            Ok(()) => {}
            Err(error) => problems.push(with_reasons(&error)),
        }
        match self.reconcile() {
            Ok(failed) => problems.extend(failed),
            Err(error) => problems.push(with_reasons(&error)),
        }
        Some(self.account(problems))
    }

    /// Goes on with the table before.
    fn refuse(&mut self, error: &Error) {
        self.refusal = Some(with_reasons(error) + "\n    the table before it stays in force");
    }

    /// Watches where changes show, before looking at what there is: what comes in between is told.
    fn watch_places(&mut self) -> Result<()> {
        loop {
            let source = &self.source;
            let what = || source.path().display().to_string();
            let files = may_hang(what, || source.entries_to_watch());
            if let Some(table) = &self.table {
                self.around = self.datapath.surroundings(table)?;
            }
            let limit = "cannot watch more directories, and looks at all of them now and then \
                         instead (see fs.inotify.max_user_watches)";
            // What is there now may lead elsewhere than a moment ago.
            let set = || self.watch.set(&files, &self.around.places);
            if !may_hang(what, set).context(limit)? {
                return Ok(());
            }
        }
    }

    fn read(&self) -> Result<Table> {
        let path = self.source.path();
        may_hang(|| path.display().to_string(), || read_table(path))
    }

    /// Makes the kernel do what the table says. Returns what could not be done.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        // The table may be a new one, with other cgroups.
        if let Err(error) = self.watch_places() {
            problems.push(with_reasons(&error));
        }
        let applied = match &self.table {
            Some(table) => self.datapath.apply(table, Absent::Await),
            None => Ok(Applied::default()),
        };
        // Whatever came of it, time goes on for what drains.
        self.drained = None;
        match self.datapath.end_drained() {
            Ok(Drained { ended, warnings, next }) => {
                warnings.iter().for_each(|warning| complain(warning));
                let ended: String = ended.iter().map(|of| describe_ended(of) + "\n").collect();
                let _ = print(&ended);
                self.drained = next.map(|time| Instant::now() + time.max(RETRY.0));
            }
            Err(error) => problems.push(with_reasons(&error.into())),
        }
        let applied = applied?;
        // A journal that is gone is no reason to stop.
        let _ = print(&describe_applied(&applied));
        let Applied { warnings, failed, .. } = applied;
        warnings.iter().for_each(|warning| complain(warning));
        problems.extend(failed.into_iter().map(|error| with_reasons(&error.into())));
        Ok(problems)
    }

    /// Tells what is wrong, once, and decides when to try again: a refused table is as good as any until
    /// its file changes.
    fn account(&mut self, problems: Vec<String>) -> Next {
        self.problems = problems.len();
        let failed = self.problems > 0;
        let mut complaints: Vec<_> = self.refusal.iter().cloned().collect();
        for problem in problems {
            if !complaints.contains(&problem) {
                complaints.push(problem);
            }
        }
        for new in complaints.iter().filter(|complaint| !self.complaints.contains(complaint)) {
            complain(new);
        }
        let status = complaints.first().and_then(|complaint| complaint.lines().next());
        let status = status.map_or_else(|| self.status(), str::to_owned);
        notify_manager(&[NotifyState::Status(&status)]);
        self.complaints = complaints;
        let pause = if failed { self.pause } else { REVIEW };
        self.pause = if failed { (self.pause * 2).min(RETRY.1) } else { RETRY.0 };
        self.at(pause)
    }

    /// Looks at everything after a pause, or when connections have had their time to drain.
    fn at(&self, pause: Duration) -> Next {
        let at = Instant::now() + pause;
        let review = self.drained.map_or(at, |due| at.min(due));
        Next { review, file: None, latest: None, cgroups: false }
    }

    fn status(&self) -> String {
        let apps = self.table.iter().flat_map(|table| table.apps.values());
        let relationships = apps.clone().map(|app| app.relationships.len()).sum();
        format!(
            "{} and {}, as {} says",
            count(apps.count(), "app"),
            count(relationships, "relationship"),
            self.source.path().display()
        )
    }
}

impl Next {
    fn hear(&mut self, notice: Notice) {
        let now = Instant::now();
        match notice {
            Notice::FileBeingWritten => {
                let latest = *self.latest.get_or_insert(now + WRITING * 10);
                self.file = Some(latest.min(now + WRITING));
            }
            // The first of a burst tells when, or there might be no end of it.
            Notice::FileChanged | Notice::Unsure => {
                let soon = now + SETTLE;
                self.file = Some(self.file.map_or(soon, |file| file.min(soon)));
            }
            Notice::CgroupsChanged => self.cgroups = true,
        }
    }

    /// Whether cgroups are all there is to look at now.
    fn only_cgroups(&self) -> bool {
        let now = Instant::now();
        // A file that is being written is not read before its time, whatever else is due.
        let file = self.file.is_none_or(|file| file > now);
        self.cgroups && file && (self.review > now || self.file.is_some())
    }

    /// How long there is nothing to do.
    fn pause(&self) -> Duration {
        if self.cgroups {
            return Duration::ZERO;
        }
        // A file that is being written is not read before its time.
        self.file.unwrap_or(self.review).saturating_duration_since(Instant::now())
    }
}

/// Whether a table was refused before anything was changed, as one with mistakes is.
fn is_refused(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(datapath::Error::Full { .. }))
}

/// Tells systemd, if that started us.
pub(super) fn notify_manager(states: &[NotifyState<'_>]) {
    let _ = may_hang(|| "the service manager".to_owned(), || sd_notify::notify(states));
}
