//! The file of the name index of a state directory, in `/run/vipnat`.
//!
//! It lives as long as bpffs does. Without it, `list` and `apply` show VIPs and no names, and what is
//! connected through relationships that are removed stays connected.

use std::{fs, io, path::Path};

use vipnat_core::model::NameIndex;

use super::run_dir::{self, beside};

/// The extension of the file.
pub(crate) const FILE: &str = "names";

/// The record of a state directory; empty if there is none, or none that can be read, which is a
/// [`NameIndex::problem`].
pub(crate) fn load(state: &Path) -> NameIndex {
    let file = beside(state, FILE);
    match fs::read_to_string(&file) {
        Ok(text) => NameIndex::from_text(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => NameIndex::default(),
        Err(error) => NameIndex::unreadable(format!("cannot read {}: {error}", file.display())),
    }
}

/// Writes the record of a state directory, in place of the one before, unless it is the same.
///
/// # Errors
///
/// If the directory or file cannot be written.
pub(crate) fn save(names: &NameIndex, state: &Path) -> io::Result<()> {
    save_instead_of(names, &load(state), state)
}

/// The same for whoever has loaded the one before.
///
/// # Errors
///
/// As [`save`].
pub(crate) fn save_instead_of(
    names: &NameIndex,
    before: &NameIndex,
    state: &Path,
) -> io::Result<()> {
    let file = beside(state, FILE);
    if names == before && before.problem().is_none() {
        return run_dir::tidy(&file);
    }
    run_dir::replace(&file, names.text().as_bytes())
}

/// Removes the record of a state directory. Returns whether there was one.
///
/// # Errors
///
/// If it is there and stays.
pub(crate) fn remove(state: &Path) -> io::Result<bool> {
    let file = beside(state, FILE);
    let found = file.exists();
    run_dir::remove(&file).map(|()| found)
}
