//! `vipnat apply`.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::list::{backend, limit};
use crate::{
    datapath::{Change, Rule},
    record::Record,
};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// Only print what would change.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let table = super::read_table(&args.table)?;
    let datapath = super::datapath(bpffs)?;
    let (old, new) = (Record::load(bpffs), Record::of(&table));
    let changes = if args.dry_run { datapath.dry_run(&table)? } else { datapath.apply(&table)? };
    let name = |app: &str, vip: Ipv4Addr| {
        let names = new.names(app, vip).or_else(|| old.names(app, vip));
        names.map_or_else(|| "?".to_owned(), |names| names.relationship.clone())
    };
    for change in &changes {
        println!("{}", describe(change, name));
    }
    match (changes.len(), args.dry_run) {
        (0, _) => println!("nothing to change"),
        (_, true) => println!("dry run: nothing was changed"),
        _ => {}
    }
    if !args.dry_run
        && let Err(error) = new.save(bpffs)
    {
        // The table is applied all the same.
        eprintln!("vipnat: cannot keep the names of relationships for `vipnat list`: {error}");
    }
    Ok(())
}

/// One line: `+` comes, `-` goes, `~` changes.
fn describe(change: &Change, name: impl Fn(&str, Ipv4Addr) -> String) -> String {
    match change {
        Change::Attach { app, cgroup } => format!("+ app {app} in cgroup {}", cgroup.display()),
        Change::Detach { app } => format!("- app {app}"),
        Change::Repair => "~ freed what an interrupted vipnat had left".to_owned(),
        Change::Vip { app, vip, old, new } => {
            let name = name(app, *vip);
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
    if rule.turns.is_empty() {
        return "no backend".to_owned();
    }
    rule.turns.iter().map(|turn| backend(*turn)).collect::<Vec<_>>().join(" ")
}
