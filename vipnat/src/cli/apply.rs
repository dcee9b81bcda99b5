//! `vipnat apply`.

mod confirm;
mod report;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use super::{
    inherited::Inherited,
    managed::{manager, refuse_if_managed},
    table::read_table,
};
use crate::{
    input::InvalidInput,
    reconcile::{MissingCgroup, Session},
};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// Only print what would change.
    #[arg(long)]
    dry_run: bool,
    /// Restore the previous state unless you type y on standard input within this time, such as 30s.
    /// Use it for changes that could cut off your own connection.
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
    let table = read_table(table)?;
    let session = inherited.apply_to(Session::new(bpffs));
    if *dry_run {
        // `vipnat run` waits for cgroups; `apply` refuses a table whose cgroups do not exist.
        let managed = manager(bpffs)?.is_some();
        let missing = if managed { MissingCgroup::Wait } else { MissingCgroup::Error };
        return report::report_dry_run(session.dry_run(&table, missing)?);
    }
    refuse_if_managed(bpffs)?;
    match confirm_timeout {
        None => report::report(session.apply(&table, MissingCgroup::Error)?),
        Some(patience) => confirm::apply(&session, &table, *patience),
    }
}
