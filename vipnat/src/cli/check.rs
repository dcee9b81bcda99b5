//! `vipnat check`.

mod shared_backends;

use std::path::PathBuf;

use anyhow::Result;
use vipnat_core::text::count;

use super::{
    output::{print, warn},
    table::read_table,
};
use crate::input::display_name;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The table, TOML or JSON; `-` for standard input.
    table: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let table = read_table(&args.table)?;
    let relationships = table.apps.values().map(|app| app.relationships.groups().count()).sum();
    let file = display_name(&args.table);
    for remark in shared_backends::remarks(&table) {
        warn(&format!("{file}: {remark}"));
    }
    print(&format!(
        "{file}: good: {}, {}, {}\n",
        count(table.services.len(), "service"),
        count(table.apps.len(), "app"),
        count(relationships, "relationship"),
    ))
}
