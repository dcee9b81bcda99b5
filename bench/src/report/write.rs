//! Writes the results, the tables and the plots into a directory.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    plots, tables,
    targets::{self, Target},
};
use crate::results::Results;

/// The content of results.json.
#[derive(Serialize)]
struct Document<'a> {
    targets: &'a [Target],
    #[serde(flatten)]
    results: &'a Results,
}

/// Writes the report again from its results.json.
pub(crate) fn rewrite(directory: &Path) -> Result<()> {
    let path = directory.join("results.json");
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let results: Results = serde_json::from_slice(&text)?;
    write(&results, directory, false)
}

/// Writes results.json, results.md and the plots into a directory.
///
/// If the results are `partial`, the report omits targets without a measurement.
pub(crate) fn write(results: &Results, directory: &Path, partial: bool) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let write = |name: &str, text: String| {
        fs::write(directory.join(name), text).with_context(|| format!("write {name}"))
    };
    let mut targets = targets::all(results);
    targets.retain(|target| target.is_measured() || !partial);
    let document = Document { targets: &targets, results };
    write("results.json", serde_json::to_string(&document)? + "\n")?;
    let targets = targets::table(&targets);
    write("results.md", tables::markdown(results, &targets))?;
    plots::draw(results, directory)?;
    print!("\n{targets}\n{}", tables::figures(results));
    println!("written to {}", directory.display());
    Ok(())
}
