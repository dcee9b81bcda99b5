//! `vipnat env`.

use std::path::PathBuf;

use anyhow::Result;
use vipnat_core::text::shown_json;

use super::{
    output::print_data,
    table::{app_of, read_table},
};

/// Arguments of `env`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
    /// The app.
    #[arg(long)]
    app: String,
    /// Print plain JSON instead of base64.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let table = read_table(&args.table)?;
    let app = app_of(&table, &args.app, &args.table)?;
    print_data(&if args.json {
        shown_json(&format!("{:#}\n", table.relationships(app))).into_owned()
    } else {
        format!("{}\n", table.platform_relationships(app))
    })
}
