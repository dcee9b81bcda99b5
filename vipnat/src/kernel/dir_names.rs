//! Reads the names in a directory.

use std::{fs, io, path::Path};

use super::error::{Attempt as _, Result};

/// The names in a directory, sorted; none if the directory does not exist.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).attempt(|| format!("read {}", path.display())),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .attempt(|| format!("read {}", path.display()))?;
    names.sort_unstable();
    Ok(names)
}
