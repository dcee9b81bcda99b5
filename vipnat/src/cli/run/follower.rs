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
    datapath::{Absent, Applied, Datapath, Drained, Surroundings},
    source::{FileSource, Notice, Watch},
    table::Table,
};

/// How long after a change the table is read: long enough for what belongs together.
const SETTLE: Duration = Duration::from_millis(2);
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
    /// If the first table can't be read or applied. Later, failures are complained of.
    pub(super) fn follow(mut self, events: &Receiver<Event>) -> Result<()> {
        self.watch_places()?;
        self.table = Some(self.read()?);
        let failed = self.reconcile()?;
        let mut next = self.account(failed);
        let _ = print(&format!("following {}\n", self.source.path().display()));
        notify_manager(&[NotifyState::Ready]);
        loop {
            match events.recv_timeout(next.pause()) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Event::Reload) => {
                    let mut states = vec![NotifyState::Reloading];
                    states.extend(NotifyState::monotonic_usec_now());
                    notify_manager(&states);
                    next = self.catch_up(true);
                    notify_manager(&[NotifyState::Ready]);
                }
                Ok(Event::Notice(notice)) => next.hear(notice),
                // At once, whatever is being written to the file.
                Err(RecvTimeoutError::Timeout) if next.cgroups => {
                    next = Next { file: next.file, latest: next.latest, ..self.catch_up(false) };
                }
                Err(RecvTimeoutError::Timeout) => next = self.catch_up(true),
            }
        }
    }

    /// Reads what may have changed and makes it so, or says why not.
    fn catch_up(&mut self, read: bool) -> Next {
        let due = self.drained.is_some_and(|due| due <= Instant::now());
        if !read && !due && self.problems == 0 && self.same_cgroups() {
            return self.at(REVIEW);
        }
        let mut problems = Vec::new();
        if let Err(error) = self.watch_places() {
            problems.push(with_reasons(&error));
        }
        if read {
            self.refusal = match self.read() {
                Ok(table) => {
                    self.table = Some(table);
                    None
                }
                Err(error) => {
                    Some(with_reasons(&error) + "\n    the table before it stays in force")
                }
            };
        }
        match self.reconcile() {
            Ok(failed) => problems.extend(failed),
            Err(error) => problems.push(with_reasons(&error)),
        }
        self.account(problems)
    }

    /// Whether the cgroups that came or went are none of ours.
    fn same_cgroups(&self) -> bool {
        let around = self.table.as_ref().map(|table| self.datapath.surroundings(table));
        around.and_then(Result::ok).is_some_and(|around| around == self.around)
    }

    /// Watches where changes show, before looking at what there is: what comes in between is told.
    fn watch_places(&mut self) -> Result<()> {
        loop {
            let files = self.source.entries_to_watch();
            if let Some(table) = &self.table {
                self.around = self.datapath.surroundings(table)?;
            }
            let limit = "cannot watch more directories (see fs.inotify.max_user_watches)";
            // What is there now may lead elsewhere than a moment ago.
            if !self.watch.set(&files, &self.around.places).context(limit)? {
                return Ok(());
            }
        }
    }

    fn read(&self) -> Result<Table> {
        read_table(self.source.path())
    }

    /// Makes the kernel do what the last good table says. Returns what could not be attached.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        // The table may be a new one, with other cgroups.
        self.watch_places()?;
        let Some(table) = &self.table else {
            return Ok(Vec::new());
        };
        let applied = self.datapath.apply(table, Absent::Await)?;
        // A journal that is gone is no reason to stop.
        let _ = print(&describe_applied(&applied));
        let Applied { warnings, failed, .. } = applied;
        warnings.iter().for_each(|warning| complain(warning));
        let Drained { ended, warnings, next } = self.datapath.end_drained()?;
        warnings.iter().for_each(|warning| complain(warning));
        let ended: String = ended.iter().map(|of| describe_ended(of) + "\n").collect();
        let _ = print(&ended);
        self.drained = next.map(|time| Instant::now() + time);
        Ok(failed.into_iter().map(|error| with_reasons(&Error::from(error))).collect())
    }

    /// Tells what is wrong, once, and decides when to try again: a refused table is as good as any until
    /// its file changes.
    fn account(&mut self, problems: Vec<String>) -> Next {
        self.problems = problems.len();
        let failed = self.problems > 0;
        let complaints: Vec<_> = self.refusal.iter().cloned().chain(problems).collect();
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

    /// How long there is nothing to do.
    fn pause(&self) -> Duration {
        if self.cgroups {
            return Duration::ZERO;
        }
        // A file that is being written is not read before its time.
        self.file.unwrap_or(self.review).saturating_duration_since(Instant::now())
    }
}

/// Tells systemd, if that started us.
pub(super) fn notify_manager(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
