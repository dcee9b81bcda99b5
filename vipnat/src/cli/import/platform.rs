//! `vipnat import platform`.

use anyhow::Result;

use super::Common;
use crate::{
    cli::{name_of, read_input, warn},
    table::Table,
};

/// Arguments of `import platform`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let Args { common } = args;
    let app = common.empty_app()?;
    let value = read_input(&common.file)?;
    let name = name_of(&common.file);
    let mut imported = Table::from_platform_relationships(&value, &name, &common.app, app)?;
    if !common.json {
        imported.leave_out_nulls();
    }
    for note in &imported.notes {
        warn(&format!("{name}: {note}"));
    }
    common.print(&imported.table)
}
