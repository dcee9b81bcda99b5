//! `vipnat apply --confirm-timeout`: what is not confirmed is taken back, as by iptables-apply(8).

use std::{
    io::{self, BufRead as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::report;
use crate::{
    datapath::{Absent, Datapath},
    table::Table,
};

/// What came instead of silence.
enum Answer {
    Line(String),
    /// No more lines can come.
    End,
    /// Whoever might confirm is leaving: a terminal that is closed sends SIGHUP.
    Signal,
}

/// Applies a table, and takes it back unless it is confirmed in time.
pub(super) fn apply(datapath: &Datapath, table: &Table, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    super::super::survive_closed_output();
    let before = datapath.present().context(
        "there would be no way back to what is there now; apply without --confirm-timeout",
    )?;
    // From here on no signal ends it before what it did is confirmed or taken back.
    let (sender, answers) = mpsc::channel();
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
    let signalled = sender.clone();
    thread::spawn(move || {
        for _ in &mut signals {
            let _ = signalled.send(Answer::Signal);
        }
    });

    let applied = datapath.apply(table, Absent::Refuse)?;
    let meanwhile =
        datapath.present().context("the change was made, and can't be taken back any more")?;
    let changed = !applied.changes.is_empty();
    let reported = report(applied);
    if !changed {
        return reported;
    }
    let shown = humantime::format_duration(Duration::from_secs(patience.as_secs().max(1)));
    super::super::complain(&format!("keep this? Answer y in {shown}, or it is taken back"));
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let _ = sender.send(line.map_or(Answer::End, Answer::Line));
        }
        let _ = sender.send(Answer::End);
    });
    let why = match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Answer::Line(line)) if ["y", "Y", "yes"].contains(&line.trim()) => return reported,
        Ok(Answer::Line(_)) => "not confirmed",
        Ok(Answer::End) => "standard input ended without a confirmation",
        Ok(Answer::Signal) => "interrupted before it was confirmed",
        Err(_) => "not confirmed in time",
    };
    datapath.restore(&before, &meanwhile).with_context(|| format!("{why}, but not taken back"))?;
    bail!("{why}: everything is as it was before")
}
