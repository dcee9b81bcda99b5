//! From text to a [`Table`]: reads, checks, and places each problem in the text.

use std::path::Path;

use super::{
    document::{Format, utf8},
    locate::locate,
};
use crate::table::{TableError, model::Table, validate::validate};

impl Table {
    /// Reads and checks a table: JSON if the first character is `{`, TOML otherwise.
    ///
    /// `file` is the name that errors give; `cgroup_mount` is where cgroup v2 is mounted, which
    /// absolute cgroup paths must be below. Touches nothing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the table, each with its line and column. A syntax error or a
    /// wrong type ends the reading, so it comes alone.
    pub fn parse(bytes: &[u8], file: &str, cgroup_mount: &Path) -> Result<Self, TableError> {
        let format = Format::of(bytes);
        let text = utf8(bytes).map_err(|problem| TableError::one(file, problem))?;
        let raw = format.read(text).map_err(|problem| TableError::one(file, problem))?;
        let checked = validate(&raw, cgroup_mount);
        // As large as the text, which is read again to find places in it.
        drop(raw);
        checked.map_err(|mut problems| {
            problems.place(|problems| locate(text, format, problems));
            TableError::new(file, problems)
        })
    }
}
