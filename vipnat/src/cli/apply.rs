//! `vipnat apply`.

mod confirm;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Error, Result, bail};

use super::{
    InvalidInput,
    list::{backend_list, choices, limit},
};
use crate::datapath::{Absent, Applied, Change, Rule};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// Only print what would change.
    #[arg(long)]
    dry_run: bool,
    /// Go back to what was there before unless it is confirmed in this time, such as 30s: by `y` on
    /// standard input. For changes that could cut off whoever makes them.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "dry_run")]
    confirm_timeout: Option<Duration>,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { table, dry_run, confirm_timeout } = args;
    if confirm_timeout.is_some() && table == Path::new("-") {
        let what = "with --confirm-timeout the answer comes from standard input; put the table into \
                    a file";
        return Err(InvalidInput(what.to_owned()).into());
    }
    let table = super::read_table(table)?;
    let datapath = super::datapath(bpffs)?;
    if *dry_run {
        let changes = datapath.dry_run(&table)?;
        let end = if changes.is_empty() { "" } else { "dry run: nothing was changed\n" };
        return super::print(&(tell(&changes) + end));
    }
    super::refuse_if_kept(bpffs)?;
    match confirm_timeout {
        None => report(datapath.apply(&table, Absent::Refuse)?),
        Some(patience) => confirm::apply(&datapath, &table, *patience),
    }
}

/// Prints what an apply did; fails if it could not do all of it.
fn report(applied: Applied) -> Result<()> {
    let Applied { changes, warnings, failed } = applied;
    for warning in warnings {
        super::complain(&warning);
    }
    super::print(&tell(&changes))?;
    if failed.is_empty() {
        return Ok(());
    }
    let apps = super::count(failed.len(), "app");
    for error in failed {
        super::complain(&format!("{:#}", Error::from(error)));
    }
    bail!("{apps} could not be attached, and nothing was removed; mend that and apply again")
}

fn tell(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing to change\n".to_owned();
    }
    changes.iter().map(|change| describe(change) + "\n").collect()
}

/// One line: `+` comes, `-` goes, `~` changes.
pub(super) fn describe(change: &Change) -> String {
    match change {
        Change::Upgrade { layout: None } => "~ programs replaced by those of this build".to_owned(),
        Change::Upgrade { layout: Some(what) } => {
            format!("~ state of another layout taken over: {what}")
        }
        Change::Expect { app } => format!("+ app {app}, which has no cgroup yet"),
        Change::Attach { app, cgroup, id: _ } => {
            format!("+ app {app} in cgroup {}", cgroup.display())
        }
        Change::Leave { app, cgroup: Some(cgroup) } => {
            format!("- app {app} in cgroup {}", cgroup.display())
        }
        Change::Leave { app, cgroup: None } => format!("- app {app} in a cgroup that is gone"),
        Change::Detach { app } => format!("- app {app}"),
        Change::Repair => "~ freed what an interrupted vipnat had left".to_owned(),
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

/// What follows a VIP: its limit, and where it goes.
fn target(rule: &Rule) -> String {
    format!("{} -> {}", limit_of(rule), backends(rule))
}

fn limit_of(rule: &Rule) -> String {
    limit(rule.port, rule.protocol)
}

fn backends(rule: &Rule) -> String {
    backend_list(&rule.backends(), "no backend", " ") + &choices(rule.select, rule.udp_pinning)
}
