//! `vipnat apply --confirm-timeout`: what is not confirmed is taken back, as by iptables-apply(8).

use std::{
    io::{self, BufRead as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::cli::apply::{describe_ended, line, report};
use crate::{
    cli::{
        output::{complain, print, warn},
        survive_closed_output,
    },
    follow::{InvalidInput, with_reasons},
    reconcile::{Applied, Drained, Session},
};
use vipnat_core::{model::Desired, table::Table};

/// What came instead of silence.
enum Answer {
    Line(String),
    /// No more lines can come.
    End,
    /// Whoever might confirm is leaving: a terminal that is closed sends SIGHUP.
    Signal,
}

/// Applies a table, and takes it back unless it is confirmed in time.
pub(crate) fn apply(datapath: &Session, table: &Table, patience: Duration) -> Result<()> {
    let deadline = Instant::now().checked_add(patience).filter(|_| !patience.is_zero());
    let Some(deadline) = deadline else {
        bail!(InvalidInput("--confirm-timeout: use a time such as 30s".to_owned()));
    };
    survive_closed_output();
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

    let applied = match datapath.apply_on_trial(table, patience) {
        Ok(applied) => applied,
        Err(error) => {
            // Perhaps half of it was made.
            let error = Error::from(error);
            return Err(match take_back(datapath, &before, None) {
                Ok(()) => error.context("not applied; everything is as it was before"),
                Err(other) => error.context(format!("not applied, and {}", with_reasons(&other))),
            });
        }
    };
    let changed = !applied.changes.is_empty() || !applied.failed.is_empty();
    let meanwhile = datapath.present().ok();
    let reported = report(applied);
    if !changed {
        return reported;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let shown = humantime::format_duration(Duration::from_secs(left.as_secs().max(1)));
    complain(&format!("keep this? Answer y in {shown}, or it is taken back"));
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let _ = sender.send(line.map_or(Answer::End, Answer::Line));
        }
        let _ = sender.send(Answer::End);
    });
    let why = match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Answer::Line(answer)) if ["y", "Y", "yes"].contains(&answer.trim()) => {
            let Drained { ended, warnings, next: _ } = datapath.end_trial()?;
            warnings.iter().for_each(|warning| warn(warning));
            print(&ended.iter().map(|of| line(&describe_ended(of))).collect::<String>())?;
            return reported;
        }
        Ok(Answer::Line(_)) => "not confirmed",
        Ok(Answer::End) => "standard input ended without a confirmation",
        Ok(Answer::Signal) => "interrupted before it was confirmed",
        Err(_) => "not confirmed in time",
    };
    take_back(datapath, &before, meanwhile.as_ref()).context(why)?;
    bail!("{why}: everything is as it was before")
}

/// Makes everything as it was before, or says what is not.
fn take_back(datapath: &Session, before: &Desired, meanwhile: Option<&Desired>) -> Result<()> {
    let applied = datapath.restore(before, meanwhile).context("it could not be taken back")?;
    let Applied { warnings, failed, .. } = applied;
    warnings.iter().for_each(|warning| warn(warning));
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<_> = failed.into_iter().map(|error| with_reasons(&error.into())).collect();
    bail!("it could not all be taken back: {}", failed.join("; "))
}
