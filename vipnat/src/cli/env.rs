//! `vipnat env`.

use crate::cli::output;
use std::path::PathBuf;

use anyhow::Result;

use vipnat_core::text::shown_json;

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
    /// As plain JSON instead of base64.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let table = super::read_table(&args.table)?;
    let app = super::app_of(&table, &args.app, &args.table)?;
    output::print_data(&if args.json {
        shown_json(&format!("{:#}\n", table.relationships(app))).into_owned()
    } else {
        format!("{}\n", table.platform_relationships(app))
    })
}
