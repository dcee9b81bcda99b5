//! The table that a verb reads, and an app in it.

use std::{fs, path::Path};

use anyhow::Result;
use vipnat_core::{
    table::{App, Table},
    text::{quoted, shown_key},
};

use super::output::warn;
use crate::{
    input::{InvalidInput, display_name, exposed_passwords, parse_table},
    kernel::process::expect_heap,
};

/// Reads and checks a table; `-` is standard input. Warns if other users can read its passwords.
pub(crate) fn read_table(path: &Path) -> Result<Table> {
    // A table, and the change that it needs, take about six times the size of its text.
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    expect_heap(usize::try_from(size).unwrap_or(0).saturating_mul(6));
    let table = parse_table(path)?;
    if let Some(exposed) = exposed_passwords(path, &table) {
        warn(&exposed);
    }
    Ok(table)
}

/// Finds an app in a table. The error names the apps that the table has.
pub(crate) fn app_of<'a>(table: &'a Table, name: &str, file: &Path) -> Result<&'a App> {
    table.apps.get(name).ok_or_else(|| {
        let known: Vec<_> = table.apps.keys().map(|name| shown_key(name)).collect();
        let known = known.join(", ");
        InvalidInput(format!("{}: no app {}; it has: {known}", display_name(file), quoted(name)))
            .into()
    })
}
