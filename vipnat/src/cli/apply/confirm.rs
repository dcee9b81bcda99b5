//! `vipnat apply --confirm-timeout` restores the previous state unless the user confirms, as iptables-apply(8) does.

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
use vipnat_core::{model::Desired, table::Table};

use super::report::report;
use crate::{
    cli::{
        describe::describe_all_ended,
        output::{print, warn, warn_escaped},
    },
    input::{InvalidInput, with_reasons},
    kernel::process::{ClosedOutput, on_closed_output},
    reconcile::{Applied, Drained, Session},
};

/// The end of the wait for a confirmation.
enum Answer {
    Line(String),
    /// Standard input ended.
    End,
    /// A signal came. A terminal that is closed sends SIGHUP.
    Signal,
}

/// Applies a table, and restores the previous state unless the user confirms in time.
pub(super) fn apply(session: &Session, table: &Table, patience: Duration) -> Result<()> {
    let deadline = Instant::now().checked_add(patience).filter(|_| !patience.is_zero());
    let Some(deadline) = deadline else {
        bail!(InvalidInput("--confirm-timeout: use a time such as 30s".to_owned()));
    };
    on_closed_output(ClosedOutput::Fails);
    let before = session.present().context(
        "cannot read the present state, so it could not be restored; apply without --confirm-timeout",
    )?;
    // From here on, signals only end the wait. The change is always confirmed or undone.
    let (sender, answers) = mpsc::channel();
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen to signals")?;
    let signalled = sender.clone();
    thread::spawn(move || {
        for _ in &mut signals {
            let _ = signalled.send(Answer::Signal);
        }
    });

    let applied = match session.apply_on_trial(table, patience) {
        Ok(applied) => applied,
        Err(error) => {
            // A part of the change may have been made.
            let error = Error::from(error);
            return Err(match restore(session, &before, None) {
                Ok(()) => error.context("not applied; vipnat restored the previous state"),
                Err(other) => error.context(format!("not applied, and {}", with_reasons(&other))),
            });
        }
    };
    let changed = !applied.changes.is_empty() || !applied.failed.is_empty();
    let meanwhile = session.present().ok();
    let reported = report(applied);
    if !changed {
        return reported;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let shown = humantime::format_duration(Duration::from_secs(left.as_secs().max(1)));
    warn_escaped(&format!(
        "Keep this change? Type y within {shown}, or vipnat restores the previous state"
    ));
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let _ = sender.send(line.map_or(Answer::End, Answer::Line));
        }
        let _ = sender.send(Answer::End);
    });
    let why = match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Answer::Line(answer)) if ["y", "Y", "yes"].contains(&answer.trim()) => {
            let Drained { ended, warnings, next: _ } = session.end_trial()?;
            warnings.iter().for_each(|warning| warn(warning));
            print(&describe_all_ended(&ended))?;
            return reported;
        }
        Ok(Answer::Line(_)) => "not confirmed",
        Ok(Answer::End) => "standard input ended without a confirmation",
        Ok(Answer::Signal) => "interrupted before it was confirmed",
        Err(_) => "not confirmed in time",
    };
    restore(session, &before, meanwhile.as_ref()).context(why)?;
    bail!("{why}: vipnat restored the previous state")
}

/// Restores the state of before. The error says which part could not be restored.
fn restore(session: &Session, before: &Desired, meanwhile: Option<&Desired>) -> Result<()> {
    let applied = session
        .restore(before, meanwhile)
        .context("vipnat could not restore the previous state")?;
    let Applied { warnings, failed, .. } = applied;
    warnings.iter().for_each(|warning| warn(warning));
    if failed.is_empty() {
        return Ok(());
    }
    let failed: Vec<_> = failed.into_iter().map(|error| with_reasons(&error.into())).collect();
    bail!("vipnat could not restore all of the previous state: {}", failed.join("; "))
}
