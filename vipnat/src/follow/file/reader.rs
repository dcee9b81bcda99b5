//! Watches, reads and parses the table's file, and compares the table with the one in force.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Error, Result};
use vipnat_core::table::{Difference, Table};

use super::{
    path::TablePath,
    watch::{FileWatch, WATCH_LIMIT},
};
use crate::follow::reading::{Ask, Reading, Update};
use crate::input::{cgroup_mount, display_name, exposed_passwords, read_input};

/// Reads one file again and again.
pub(super) struct FileReader {
    path: TablePath,
    watch: FileWatch,
    /// The table in force, which need not be that of the file.
    in_force: Option<Arc<Table>>,
    last: Option<Last>,
}

/// What was read last.
struct Last {
    /// A hash would take less memory, but has to read all of a text that did change. This comparison ends at
    /// the first difference.
    bytes: Vec<u8>,
    /// The mount point of cgroup v2, with which absolute paths of cgroups begin.
    mount: PathBuf,
    /// Its table. `None` if the text has mistakes, or its table did not come into force.
    table: Option<Arc<Table>>,
    /// Whether the file could not be read since.
    lost: bool,
}

impl FileReader {
    pub(super) fn new(path: TablePath, watch: FileWatch) -> Self {
        Self { path, watch, in_force: None, last: None }
    }

    /// Sets the table that is in force from now on. Drops the one before.
    pub(super) fn set_in_force(&mut self, table: Option<Arc<Table>>) {
        if let Some(last) = &mut self.last {
            let is_in_force =
                |last: &Arc<Table>| table.as_ref().is_some_and(|table| Arc::ptr_eq(last, table));
            last.table.take_if(|last| !is_in_force(last));
        }
        self.in_force = table;
    }

    /// Watches the file, then reads it. A change in between causes an event.
    pub(super) fn read(&mut self, answers: Ask) -> Reading {
        // A link on the way may have changed before it was watched, so watch again until none is new.
        let unwatched = loop {
            match self.watch.set(&self.path.entries_to_watch()) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(Error::from(error).context(WATCH_LIMIT)),
            }
        };
        if answers.reload {
            self.last = None;
        }
        let update = self.update();
        let table = self.last.as_ref().and_then(|last| last.table.as_ref());
        let table = table.filter(|_| update.is_ok());
        let exposed = table.and_then(|table| exposed_passwords(self.path.path(), table));
        Reading { update, exposed, unwatched, answers }
    }

    fn update(&mut self) -> Result<Update> {
        let file = self.path.path();
        let bytes = match read_input(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                if let Some(last) = &mut self.last {
                    last.lost = true;
                }
                return Err(error);
            }
        };
        let mount = cgroup_mount();
        if let Some(last) = &mut self.last
            && last.bytes == bytes
            && last.mount == mount
        {
            if !std::mem::take(&mut last.lost) {
                return Ok(Update::Same);
            }
            // The error since then was reported instead of the last result.
            if let Some(table) = &last.table {
                let table = Arc::clone(table);
                return Ok(Self::compared(self.in_force.as_ref(), table));
            }
        }
        let parsed = Table::parse(&bytes, &display_name(file), &mount).map(Arc::new);
        let table = parsed.as_ref().ok().map(Arc::clone);
        self.last = Some(Last { bytes, mount, table, lost: false });
        Ok(Self::compared(self.in_force.as_ref(), parsed?))
    }

    fn compared(in_force: Option<&Arc<Table>>, table: Arc<Table>) -> Update {
        let difference = in_force.map(|in_force| {
            if Arc::ptr_eq(in_force, &table) {
                return Difference::default();
            }
            Difference::between(in_force, &table)
        });
        Update::Table { table, difference }
    }
}

#[cfg(test)]
mod tests;
