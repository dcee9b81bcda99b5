//! The file, read. That may take for ever.

use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result};

use super::{exposed::exposed, input::parse_table, source::FileSource, watch::Watch};
use vipnat_core::table::Table;

/// Why watching may fail.
pub(crate) const WATCH_LIMIT: &str = "cannot watch more directories, and looks at all of them now and then \
                                      instead (see fs.inotify.max_user_watches)";

/// What came of reading the file.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) table: Result<Table>,
    /// That others can read its passwords, if they can.
    pub(crate) exposed: Option<String>,
    /// Why changes of the file may not be noticed.
    pub(crate) unwatched: Option<Error>,
}

impl Reading {
    /// Watches the file, then reads it: what changes in between is told.
    pub(crate) fn of(source: &FileSource, files: &Mutex<Watch>) -> Self {
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        // What is there now may lead elsewhere than a moment ago.
        let unwatched = loop {
            match files.set(&source.entries_to_watch()) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(Error::from(error).context(WATCH_LIMIT)),
            }
        };
        let table = parse_table(source.path());
        let exposed = table.as_ref().ok().and_then(|table| exposed(source.path(), table));
        Self { table, exposed, unwatched }
    }
}
