//! From text to a table: the reading, and the place of each mistake in the text.

pub(super) mod document;
pub(super) mod endpoint;
pub(super) mod locate;
pub(super) mod named;
pub(super) mod raw;
mod read_object;
mod read_table;
pub(super) mod unreadable;
