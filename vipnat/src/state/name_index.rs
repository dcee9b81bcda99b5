//! The file of a state directory's name index, in `/run/vipnat`.
//!
//! It lives as long as bpffs does. Without it, `list` and `apply` show VIPs instead of names, and vipnat
//! cannot end connections of removed relationships.

use std::{fs, io, path::Path};

use vipnat_core::model::NameIndex;

use super::run_dir::{self, beside};

/// The extension of the file.
pub(crate) const FILE: &str = "names";

/// Reads the name index of a state directory. It is empty if there is no file, or the file cannot be read,
/// which is a [`NameIndex::problem`].
pub(crate) fn load(state: &Path) -> NameIndex {
    let file = beside(state, FILE);
    match fs::read_to_string(&file) {
        Ok(text) => NameIndex::from_text(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => NameIndex::default(),
        Err(error) => NameIndex::unreadable(format!("cannot read {}: {error}", file.display())),
    }
}

/// Replaces the name index of a state directory, unless it is the same.
///
/// # Errors
///
/// The directory or file cannot be written.
pub(crate) fn save(names: &NameIndex, state: &Path) -> io::Result<()> {
    save_instead_of(names, &load(state), state)
}

/// As [`save`], for a caller that has loaded the former index.
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

/// Replaces the name index of a state directory.
///
/// # Errors
///
/// As [`save`].
pub(crate) fn replace(names: &NameIndex, state: &Path) -> io::Result<()> {
    run_dir::replace(&beside(state, FILE), names.text().as_bytes())
}

/// Removes the name index of a state directory. Returns whether there was one.
///
/// # Errors
///
/// The file exists and cannot be removed.
pub(crate) fn remove(state: &Path) -> io::Result<bool> {
    let file = beside(state, FILE);
    let found = file.exists();
    run_dir::remove(&file).map(|()| found)
}
