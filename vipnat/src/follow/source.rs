//! Where `vipnat run` gets its table from.

use std::sync::Arc;

use anyhow::Result;
use vipnat_core::table::Table;

use super::{
    inbox::{Inbox, News},
    reading::Ask,
};

/// A source of tables: a file, or a store that keeps each service and each app by itself.
///
/// It works on threads of its own, since that may hang, and puts each [`Reading`](super::reading::Reading) into the inbox. After one, it
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
