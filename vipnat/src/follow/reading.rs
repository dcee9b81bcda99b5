//! What a source says: a table, changes, or a refusal.

use std::sync::Arc;

use anyhow::{Error, Result};
use vipnat_core::table::{Difference, Table, TableChanges};

/// The reasons why a reading was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// A while has passed.
    pub(crate) review: bool,
    /// The user wants it. What was read before does not count.
    pub(crate) reload: bool,
}

/// What a source says.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The table or its changes, or the reason why there are none; the table before then stays in force.
    pub(crate) update: Result<Update>,
    /// A warning that other users can read its passwords, if they can.
    pub(crate) exposed: Option<String>,
    /// The reason why some changes are noticed late, if there is one.
    pub(crate) unwatched: Option<Error>,
    /// What it answers. It was begun after that.
    pub(crate) answers: Ask,
}

/// A table, or its changes.
#[derive(Debug)]
pub(crate) enum Update {
    /// The same as the last reading. If that was refused, so is this.
    Same,
    /// A whole table.
    Table {
        table: Arc<Table>,
        /// The difference to the table in force. `None` if none is.
        difference: Option<Difference>,
    },
    /// Changes of the table in force.
    #[expect(dead_code, reason = "no source tells of single changes yet")]
    Changes(TableChanges),
}
