//! Where `vipnat run` gets its table from.

use std::sync::Arc;

use anyhow::{Error, Result};
use vipnat_core::table::{Difference, Table, TableChanges};

use super::inbox::{Inbox, News};

/// A source of tables: a file, or a store that keeps each service and each app by itself.
///
/// It works on threads of its own, since that may hang, and puts each [`Reading`] into the inbox. After one, it
/// keeps back the next until [`Source::go_on`] says which table is in force. So it knows to which table its
/// next reading is relative, and a burst of changes takes no room in the inbox.
pub(crate) trait Source: Send {
    /// Its name for messages.
    fn name(&self) -> String;

    /// The message for a reading that takes long.
    fn slow(&self) -> String;

    /// Begins. The first reading comes as soon as possible, and has a table.
    ///
    /// # Errors
    ///
    /// If it cannot hear of changes.
    fn start(&mut self, inbox: &Arc<Inbox<News>>) -> Result<()>;

    /// Asks for a reading although nothing may have changed.
    fn read(&self, ask: Ask);

    /// Ends the work on the last reading. This table is in force from now on, the one of the reading or
    /// another.
    ///
    /// The source drops the table that was in force before, since that takes milliseconds for a large one.
    fn go_on(&self, in_force: Option<&Arc<Table>>);
}

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
