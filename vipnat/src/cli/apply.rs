//! `vipnat apply`.

mod confirm;

use crate::cli::output;
use crate::follow;
use crate::kernel::error;
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use vipnat_core::text;

use anyhow::{Error, Result, bail};

use crate::reconcile::{Applied, Connections, MissingCgroup};
use crate::{
    cli::{
        Inherited,
        list::{backend_list, choices, limit},
    },
    follow::InvalidInput,
};
use vipnat_core::{
    model::{Change, Mapping, Place, RemovedBackend},
    text::{shown, shown_name},
};

const NOTHING: &str = "nothing to change\n";

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// Only print what would change.
    #[arg(long)]
    dry_run: bool,
    /// Go back to what was there before unless it is confirmed in this time, such as 30s: by `y` on
    /// standard input. For changes that could cut off whoever makes them.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "dry_run")]
    confirm_timeout: Option<Duration>,
    #[command(flatten)]
    inherited: Inherited,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { table, dry_run, confirm_timeout, inherited } = args;
    if confirm_timeout.is_some() && table == Path::new("-") {
        let what = "with --confirm-timeout the answer comes from standard input; put the table into \
                    a file";
        return Err(InvalidInput(what.to_owned()).into());
    }
    let table = super::read_table(table)?;
    let datapath = inherited.apply_to(super::datapath(bpffs));
    if *dry_run {
        // What follows a file waits for cgroups.
        let followed = super::holder(bpffs)?.is_some();
        let absent = if followed { MissingCgroup::Wait } else { MissingCgroup::Error };
        let Applied { changes, failed, warnings, .. } = datapath.dry_run(&table, absent)?;
        warnings.iter().for_each(|warning| output::warn(warning));
        output::print(&if changes.is_empty() {
            NOTHING.to_owned()
        } else {
            tell(&changes) + "dry run: nothing was changed\n"
        })?;
        let what = "could not be attached (see above); fix the cause before you apply";
        return complain_of(failed, what);
    }
    super::refuse_if_kept(bpffs)?;
    match confirm_timeout {
        None => report(datapath.apply(&table, MissingCgroup::Error)?),
        Some(patience) => confirm::apply(&datapath, &table, *patience),
    }
}

/// Prints what an apply did; fails if it could not do all of it.
fn report(applied: Applied) -> Result<()> {
    let text = describe_applied(&applied);
    let Applied { changes: _, ended: _, draining: _, warnings, failed } = applied;
    warnings.iter().for_each(|warning| output::warn(warning));
    output::print(if text.is_empty() { NOTHING } else { &text })?;
    complain_of(failed, "could not be attached, and keep what they had; mend that and apply again")
}

/// Says which apps failed and why, and how many.
fn complain_of(failed: Vec<error::Error>, what: &str) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let apps = text::count(failed.len(), "app");
    for error in failed {
        output::complain(&follow::with_reasons(&Error::from(error)));
    }
    bail!("{apps} {what}")
}

/// What an apply did, a line each; nothing if it did nothing.
pub(crate) fn describe_applied(applied: &Applied) -> String {
    let Applied { changes, ended, draining, warnings: _, failed: _ } = applied;
    let mut text = tell(changes);
    text.extend(ended.iter().map(|connections| line(&describe_ended(connections))));
    text.extend(draining.iter().map(|(of, until)| line(&describe_draining(of, *until))));
    text
}

fn tell(changes: &[Change]) -> String {
    changes.iter().map(|change| line(&describe(change))).collect()
}

/// A line of output, whatever is in it: cgroups are named by whoever makes them.
pub(crate) fn line(text: &str) -> String {
    format!("{}\n", shown(text))
}

/// One line: `+` comes, `-` goes, `~` changes.
fn describe(change: &Change) -> String {
    match change {
        Change::Upgrade { layout: None } => "~ programs replaced by those of this build".to_owned(),
        Change::Upgrade { layout: Some(what) } => {
            format!("~ state of another layout taken over: {what}")
        }
        Change::Grow { vips, backends } => {
            format!("~ larger maps, for {vips} VIPs and {backends} backends of theirs")
        }
        Change::Expect { app } => format!("+ app {app}, which has no cgroup yet"),
        Change::Attach { app, cgroup, id: _ } => {
            format!("+ app {app} in cgroup {}", shown_name(cgroup))
        }
        Change::Leave { app, cgroup: Place::At(cgroup) } => {
            format!("- app {app} in cgroup {}", shown_name(cgroup))
        }
        Change::Leave { app, cgroup: Place::Unseen(id) } => {
            format!("- app {app} in the cgroup whose id is {id}, which is not in view")
        }
        Change::Leave { app, cgroup: Place::Gone } => {
            format!("- app {app} in a cgroup that is gone")
        }
        Change::Detach { app } => format!("- app {app}"),
        Change::Repair => "~ put in order what an interrupted vipnat had left".to_owned(),
        Change::Vip { app, relationship, vip, old, new } => {
            let name = relationship.as_deref().unwrap_or("?");
            match (old, new) {
                (None, Some(new)) => format!("+ {app} {name} {vip}{}", target(new)),
                (Some(old), None) => format!("- {app} {name} {vip}{}", target(old)),
                (Some(old), Some(new)) if limit_of(old) == limit_of(new) => {
                    format!("~ {app} {name} {vip}{}, was {}", target(new), backends(old))
                }
                (Some(old), Some(new)) => {
                    format!("~ {app} {name} {vip}{}, was {vip}{}", target(new), target(old))
                }
                (None, None) => format!("? {app} {name} {vip}"),
            }
        }
    }
}

/// `x shop db 169.254.37.209: ended 3 connections to 247.221.81.0`
pub(crate) fn describe_ended(connections: &Connections) -> String {
    let (whose, what) = describe_connections(connections);
    format!("x {whose}: ended {what}")
}

fn describe_draining(connections: &Connections, until: SystemTime) -> String {
    let (whose, what) = describe_connections(connections);
    let seconds = until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let verb = if connections.count == 1 { "drains" } else { "drain" };
    format!(
        "x {whose}: {what} {verb} until {hours:02}:{minutes:02}:{:02} UTC; `vipnat run`, or the \
         next apply after that, ends what is left",
        seconds % 60
    )
}

/// Whose they are, how many, and where to.
fn describe_connections(connections: &Connections) -> (String, String) {
    let Connections { departed, count } = connections;
    let RemovedBackend { app, relationship, app_id: _, vip, backend } = departed;
    let name = relationship.as_deref().unwrap_or("?");
    let backend = backend_list(&[(*backend, 1)], "", "");
    let connections = text::count(*count, "connection");
    (format!("{app} {name} {vip}"), format!("{connections} to {backend}"))
}

/// What follows a VIP: its limit, and where it goes.
fn target(rule: &Mapping) -> String {
    format!("{} -> {}", limit_of(rule), backends(rule))
}

fn limit_of(rule: &Mapping) -> String {
    limit(rule.port, rule.protocol)
}

fn backends(rule: &Mapping) -> String {
    backend_list(&rule.backends(), "no backend", " ") + &choices(rule.select, rule.udp_pinning)
}
