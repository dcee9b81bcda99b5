//! From text to a [`Table`]: reads it, checks it, and locates each problem in the text.

use std::path::Path;

use super::{
    document::{Format, utf8},
    locate::locate,
};
use crate::table::{TableError, model::Table, validate::validate};

impl Table {
    /// Reads and checks a table: JSON if the first character is `{`, TOML otherwise.
    ///
    /// `file` is the name in error messages. `cgroup_mount` is the mount point of cgroup v2, and absolute
    /// cgroup paths must be below it. Neither is opened.
    ///
    /// # Errors
    ///
    /// All mistakes in the table, each with its line and column. A syntax error or a wrong type ends the
    /// reading, so it comes alone.
    pub fn parse(bytes: &[u8], file: &str, cgroup_mount: &Path) -> Result<Self, TableError> {
        let format = Format::of(bytes);
        let text = utf8(bytes).map_err(|problem| TableError::one(file, problem))?;
        let raw = format.read(text).map_err(|problem| TableError::one(file, problem))?;
        let checked = validate(&raw, cgroup_mount);
        // Free it before the text is read again to find places; it is as large as the text.
        drop(raw);
        checked.map_err(|mut problems| {
            problems.place(|problems| locate(text, format, 0, problems));
            TableError::new(file, problems)
        })
    }
}
