//! `vipnat import platform`.

use anyhow::Result;
use vipnat_core::{
    table::{Table, Unsupported},
    text::quoted,
};

use super::common::Common;
use crate::{
    cli::output::{warn, warn_escaped},
    input::{InvalidInput, display_name, read_input},
};

/// Arguments of `import platform`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Skip endpoints that a table cannot represent, and print each of them.
    #[arg(long)]
    skip_unsupported: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { common, skip_unsupported } = args;
    let app = common.empty_app()?;
    let value = read_input(&common.file)?;
    let name = display_name(&common.file);
    let unsupported = if *skip_unsupported { Unsupported::Skip } else { Unsupported::Refuse };
    let mut imported =
        Table::from_platform_relationships(&value, &name, &common.app, app, unsupported)?;
    if let Some(skipped) = &imported.skipped {
        // The text has several lines. Core has escaped each value from outside in them.
        warn_escaped(&format!("skipped: {skipped}"));
    }
    if !common.json {
        imported.leave_out_nulls();
    }
    for note in &imported.notes {
        warn(&format!("{name}: {note}"));
    }
    // To apply such a table would remove all VIPs. A value that is empty itself may mean that.
    let nothing_left = imported.table.apps.values().all(|app| app.relationships.is_empty());
    if imported.skipped.is_some() && nothing_left {
        return Err(InvalidInput(format!(
            "{name}: nothing is left of the value, since a table can represent none of its endpoints\n    \
             correct what was skipped; no table is printed, as one without relationships would take \
             the VIPs of app {} away",
            quoted(&common.app)
        ))
        .into());
    }
    common.print(&imported.table)
}
