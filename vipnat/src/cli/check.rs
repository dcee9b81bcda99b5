//! `vipnat check`.

use std::path::PathBuf;

use anyhow::Result;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let table = super::read_table(&args.table)?;
    let relationships = table.apps.values().map(|app| app.relationships.len()).sum();
    super::print(&format!(
        "{}: good: {}, {}, {}\n",
        super::name_of(&args.table),
        super::count(table.services.len(), "service"),
        super::count(table.apps.len(), "app"),
        super::count(relationships, "relationship"),
    ))
}
