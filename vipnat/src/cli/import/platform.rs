//! `vipnat import platform`.

use anyhow::Result;

use super::Common;
use crate::{
    cli::{complain, name_of, read_input, warn},
    table::{Table, Unsupported},
};

/// Arguments of `import platform`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Leave out what a table can't represent, and tell what it is.
    #[arg(long)]
    skip_unsupported: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let Args { common, skip_unsupported } = args;
    let app = common.empty_app()?;
    let value = read_input(&common.file)?;
    let name = name_of(&common.file);
    let unsupported = if *skip_unsupported { Unsupported::Skip } else { Unsupported::Refuse };
    let mut imported =
        Table::from_platform_relationships(&value, &name, &common.app, app, unsupported)?;
    if let Some(skipped) = &imported.skipped {
        // Several lines, in which all that is not vipnat's own is printable already.
        complain(&format!("skipped: {skipped}"));
    }
    if !common.json {
        imported.leave_out_nulls();
    }
    for note in &imported.notes {
        warn(&format!("{name}: {note}"));
    }
    common.print(&imported.table)
}
