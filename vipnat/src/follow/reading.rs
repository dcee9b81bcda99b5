//! Watches and reads the table's file. Both may hang.

use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result};
use vipnat_core::table::Table;

use super::{
    file_watch::{FileWatch, WATCH_LIMIT},
    source::FileSource,
};
use crate::input::{exposed_passwords, parse_table};

/// The result of reading the file.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) table: Result<Table>,
    /// A warning that other users can read its passwords, if they can.
    pub(crate) exposed: Option<String>,
    /// The reason why some changes of the file cause no event, if there is one.
    pub(crate) unwatched: Option<Error>,
}

impl Reading {
    /// Watches the file, then reads it. A change in between causes an event.
    pub(crate) fn of(source: &FileSource, files: &Mutex<FileWatch>) -> Self {
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        // A link on the way may have changed before it was watched, so watch again until none is new.
        let unwatched = loop {
            match files.set(&source.entries_to_watch()) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(Error::from(error).context(WATCH_LIMIT)),
            }
        };
        let table = parse_table(source.path());
        let exposed = table.as_ref().ok().and_then(|table| exposed_passwords(source.path(), table));
        Self { table, exposed, unwatched }
    }
}
