//! `vipnat check`.

mod shared_backends;

use crate::cli::output;
use crate::follow;
use std::path::PathBuf;
use vipnat_core::text;

use anyhow::Result;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let table = super::read_table(&args.table)?;
    let relationships = table.apps.values().map(|app| app.relationships.groups().count()).sum();
    let file = follow::display_name(&args.table);
    for remark in shared_backends::remarks(&table) {
        output::warn(&format!("{file}: {remark}"));
    }
    output::print(&format!(
        "{file}: good: {}, {}, {}\n",
        text::count(table.services.len(), "service"),
        text::count(table.apps.len(), "app"),
        text::count(relationships, "relationship"),
    ))
}
