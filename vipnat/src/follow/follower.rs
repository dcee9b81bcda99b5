//! The loop of `vipnat run`: what changed is read, and made so.

use std::{
    mem,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use sd_notify::NotifyState;

use super::{
    cgroup_watch::CgroupWatch,
    input::{display_name, with_reasons},
    report::Report,
    source::FileSource,
    watch::Watch,
};
use crate::follow::{
    cgroup_places::{Moves, Places},
    inbox::{Inbox, News},
    reading::Reading,
    schedule::{Next, is_due},
};
use crate::{
    kernel::{error, worker::may_hang},
    reconcile::{Applied, Drained, KeptUp, MissingCgroup, Session},
};
use vipnat_core::{
    table::Table,
    text::{count, shown},
};

/// How often everything is looked at again, whatever was noticed.
const REVIEW: Duration = Duration::from_secs(30);
/// The first and the longest pause after something failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The shortest and the longest pause after cgroups were looked at that came and went: as long as that
/// took, or others who attach some would wait for us.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// After a look at everything, so many times as long as that took pass before events lead to another.
const SHARE: u32 = 4;
/// So many things that are wrong are said between two looks at everything.
const MOST_COMPLAINTS: usize = 32;

/// Keeps the kernel as the last good table says.
pub(crate) struct Follower {
    source: FileSource,
    datapath: Session,
    report: Box<dyn Report>,
    inbox: Arc<Inbox>,
    /// Used by the thread that reads the file, which may hang.
    files: Arc<Mutex<Watch>>,
    places: Places,
    /// The last table that was good.
    table: Option<Table>,
    /// The file is being read.
    reading: bool,
    /// It changed again meanwhile.
    read_again: bool,
    /// The service manager waits for the end of this.
    reloading: bool,
    /// When the next connections have had their time to drain.
    drained: Option<Instant>,
    /// How long to wait after the next failure.
    pause: Duration,
    /// When events may lead to a look at everything again.
    calm: Instant,
    /// Why the file is not what is in force, if it is not.
    refusal: Option<String>,
    /// That others can read the passwords of the table, if they can.
    exposed: Option<String>,
    /// What was last complained of; it is not repeated.
    complaints: Vec<String>,
    /// What it warned of when it last looked at everything; it is not repeated either.
    warned: Vec<String>,
}

impl Follower {
    /// Has done nothing yet.
    pub(crate) fn new(
        source: FileSource,
        datapath: Session,
        report: Box<dyn Report>,
        inbox: Arc<Inbox>,
        files: Watch,
        cgroups: CgroupWatch,
    ) -> Self {
        Self {
            source,
            datapath,
            report,
            inbox,
            files: Arc::new(Mutex::new(files)),
            places: Places::new(cgroups),
            table: None,
            reading: false,
            read_again: false,
            reloading: false,
            drained: None,
            pause: RETRY.0,
            calm: Instant::now(),
            refusal: None,
            exposed: None,
            complaints: Vec::new(),
            warned: Vec::new(),
        }
    }

    /// Applies and follows until it is told to stop.
    ///
    /// # Errors
    ///
    /// If the first table can't be read or applied, and nothing was applied before. Later, failures are
    /// complained of.
    pub(crate) fn follow(mut self) -> Result<()> {
        let (source, files) = (&self.source, &self.files);
        let what = || source.path().display().to_string();
        let Reading { table, exposed, unwatched } = may_hang(what, || Reading::of(source, files));
        self.exposed = exposed;
        match table {
            Ok(table) => self.table = Some(table),
            // Something is in force already, and a file may be mended.
            Err(error) if self.datapath.is_applied() => self.refuse(&error),
            Err(error) => return Err(error),
        }
        let mut problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        match self.reconcile() {
            Ok(failed) => problems.extend(failed),
            Err(error) if !self.datapath.is_applied() => return Err(error),
            Err(error) if is_refused(&error) => {
                self.refuse(&error);
                self.table = None;
            }
            Err(error) => problems.push(with_reasons(&error)),
        }
        let mut next = Next::at(self.account(problems));
        self.report.following(self.source.path());
        notify_manager(&[NotifyState::Ready]);
        loop {
            let News { stop, reload, reading, changed, written, cgroups } =
                self.inbox.wait(next.pause());
            if stop {
                return Ok(());
            }
            if written {
                next.hear_of_writing();
            }
            if changed {
                next.hear_of_change();
            }
            next.cgroups |= cgroups;
            if reload {
                let mut states = vec![NotifyState::Reloading];
                states.extend(NotifyState::monotonic_usec_now());
                notify_manager(&states);
                self.reloading = true;
                self.read(&mut next);
            }
            if let Some(reading) = reading {
                self.take_in(reading, &mut next);
            }
            // At once, whatever is being written to the file.
            if next.cgroups && is_due(Some(next.cgroups_from)) {
                self.look_at_cgroups(&mut next);
            }
            if is_due(next.file) {
                self.read(&mut next);
            }
            if is_due(Some(next.review)) && next.file.is_none() {
                self.review(&mut next);
            } else if is_due(next.look) {
                self.look_at_everything(&mut next);
            }
        }
    }

    /// Begins to read the file. That is done on a thread of its own, since it may take for ever.
    fn read(&mut self, next: &mut Next) {
        (next.file, next.latest) = (None, None);
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

    /// Makes so what was read, or says why not.
    fn take_in(&mut self, reading: Reading, next: &mut Next) {
        self.reading = false;
        let Reading { table, exposed, unwatched } = reading;
        self.exposed = exposed;
        let mut problems: Vec<_> = unwatched.iter().map(with_reasons).collect();
        let mut before = None;
        match table {
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
        (next.review, next.look) = (self.account(problems), None);
        if self.read_again {
            self.read_again = false;
            self.read(next);
        } else if self.reloading {
            self.reloading = false;
            notify_manager(&[NotifyState::Ready]);
        }
    }

    /// Looks at everything, the file as well.
    fn review(&mut self, next: &mut Next) {
        if !self.reading {
            // It is due again if that does not end.
            next.review = Instant::now() + REVIEW;
            return self.read(next);
        }
        self.refusal = Some(hangs(&display_name(self.source.path())));
        self.look_at_everything(next);
    }

    /// Makes the kernel do what the table in force says.
    fn look_at_everything(&mut self, next: &mut Next) {
        let problems = self.reconcile().unwrap_or_else(|error| vec![with_reasons(&error)]);
        (next.review, next.look) = (self.account(problems), None);
    }

    /// Looks at cgroups that came or went, and at nothing else.
    fn look_at_cgroups(&mut self, next: &mut Next) {
        let begun = Instant::now();
        match self.follow_cgroups() {
            Ok(true) => {}
            // Whatever it is: it shows again, or is gone, when everything is looked at.
            Ok(false) | Err(_) => drop(next.look.get_or_insert(begun.max(self.calm))),
        }
        next.cgroups = self.places.has_more();
        next.cgroups_from = Instant::now() + begun.elapsed().clamp(PAUSE.0, PAUSE.1);
    }

    /// Returns whether that was all.
    fn follow_cgroups(&mut self) -> Result<bool> {
        let Moves { came, went, contested, lost } = self.places.moves(&self.datapath)?;
        let mut plain = !lost;
        if !came.is_empty() || !went.is_empty() {
            let KeptUp { changes, failed, unclear } =
                self.datapath.keep_up(&mut self.places.holdings, &went, &came);
            self.places.note(came);
            self.report.applied(&Applied { changes, ..Applied::default() });
            // It is tried again as anything that failed.
            plain &= !unclear && failed.is_empty();
        }
        for (cgroup, apps) in contested {
            let error = error::Error::Contested { cgroup, apps };
            let complaint = with_reasons(&error.into());
            if self.complaints.len() < MOST_COMPLAINTS && !self.complaints.contains(&complaint) {
                self.report.problem(&complaint);
                self.complaints.push(complaint);
            }
        }
        Ok(plain)
    }

    /// Goes on with the table before.
    fn refuse(&mut self, error: &Error) {
        self.refusal = Some(with_reasons(error) + "\n    the table before it stays in force");
    }

    /// Makes the kernel do what the table says. Returns what could not be done.
    fn reconcile(&mut self) -> Result<Vec<String>> {
        let begun = Instant::now();
        let done = self.make();
        self.calm = Instant::now() + begun.elapsed() * SHARE;
        done
    }

    fn make(&mut self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let mut found = None;
        let applied = match &self.table {
            Some(table) => {
                let (there, failed) = self.places.watch(&self.datapath, table);
                problems.extend(failed.as_ref().map(with_reasons));
                found = Some(there);
                self.datapath.apply(table, MissingCgroup::Wait)
            }
            None => Ok(Applied::default()),
        };
        let before = mem::take(&mut self.warned);
        // Whatever came of it, time goes on for what drains.
        self.drained = None;
        match self.datapath.end_drained() {
            Ok(Drained { ended, warnings, next }) => {
                self.warn(&warnings, &before);
                self.report.ended(&ended);
                self.drained = next.map(|time| Instant::now() + time.max(RETRY.0));
            }
            Err(error) => problems.push(with_reasons(&error.into())),
        }
        let applied = applied?;
        self.report.applied(&applied);
        let Applied { warnings, failed, .. } = applied;
        self.warn(&warnings, &before);
        problems.extend(failed.into_iter().map(|error| with_reasons(&error.into())));
        if let Some(found) = found
            && let Err(error) = self.places.learn(&self.datapath, found)
        {
            problems.push(with_reasons(&error));
        }
        Ok(problems)
    }

    /// Warns of what it did not warn of before: what fails for long is tried again and again.
    fn warn(&mut self, warnings: &[String], before: &[String]) {
        let new = warnings.iter().filter(|warning| !before.contains(warning));
        new.for_each(|warning| self.report.warning(warning));
        self.warned.extend_from_slice(warnings);
    }

    /// Tells what is wrong, once, and decides when to try again: a refused table is as good as any until
    /// its file changes.
    fn account(&mut self, problems: Vec<String>) -> Instant {
        let failed = !problems.is_empty();
        let mut complaints: Vec<_> = self.refusal.iter().cloned().collect();
        for problem in problems {
            if !complaints.contains(&problem) {
                complaints.push(problem);
            }
        }
        let status = complaints.first().and_then(|complaint| complaint.lines().next());
        let status = status.map_or_else(|| self.status(), str::to_owned);
        // The table is good all the same.
        complaints.extend(self.exposed.clone());
        for new in complaints.iter().filter(|complaint| !self.complaints.contains(complaint)) {
            self.report.problem(new);
        }
        notify_manager(&[NotifyState::Status(&shown(&status))]);
        self.complaints = complaints;
        let pause = if failed { self.pause } else { REVIEW };
        self.pause = if failed { (self.pause * 2).min(RETRY.1) } else { RETRY.0 };
        // Or when connections have had their time to drain.
        let at = Instant::now() + pause;
        self.drained.map_or(at, |due| at.min(due))
    }

    fn status(&self) -> String {
        let apps = self.table.iter().flat_map(|table| table.apps.values());
        let relationships = apps.clone().map(|app| app.relationships.groups().count()).sum();
        format!(
            "{} and {}, as {} says",
            count(apps.count(), "app"),
            count(relationships, "relationship"),
            self.source.path().display()
        )
    }
}

/// The same each time, so that it is said once.
fn hangs(file: &str) -> String {
    format!(
        "{file}: opening or reading it takes long; is its file system there?\n    the table before it stays \
         in force"
    )
}

/// Whether a table was refused before anything was changed, as one with mistakes is.
fn is_refused(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(error::Error::Full(_)))
}

/// Tells systemd, if that started us.
pub(crate) fn notify_manager(states: &[NotifyState<'_>]) {
    let _ = may_hang(|| "the service manager".to_owned(), || sd_notify::notify(states));
}
