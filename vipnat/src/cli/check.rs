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
    let relationships: usize = table.apps.values().map(|app| app.relationships.len()).sum();
    println!(
        "{}: good: {} services, {} apps, {relationships} relationships",
        args.table.display(),
        table.services.len(),
        table.apps.len(),
    );
    Ok(())
}
