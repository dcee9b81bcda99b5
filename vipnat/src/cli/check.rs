//! `vipnat check`.

mod shared_backends;

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
    let relationships = table.apps.values().map(|app| app.relationships.groups().count()).sum();
    let file = super::name_of(&args.table);
    for remark in shared_backends::remarks(&table) {
        super::warn(&format!("{file}: {remark}"));
    }
    super::print(&format!(
        "{file}: good: {}, {}, {}\n",
        super::count(table.services.len(), "service"),
        super::count(table.apps.len(), "app"),
        super::count(relationships, "relationship"),
    ))
}
