//! What is written when all is measured.

mod tables;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::results::Results;

/// Writes results.json, results.md and the plots into a directory.
pub(crate) fn write(results: &Results, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("make {}", directory.display()))?;
    let write = |name: &str, text: String| {
        fs::write(directory.join(name), text).with_context(|| format!("write {name}"))
    };
    write("results.json", serde_json::to_string(results)? + "\n")?;
    let tables = tables::markdown(results);
    print!("{tables}");
    write("results.md", tables)
}
