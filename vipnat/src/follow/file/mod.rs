//! A file as the source of tables.
//!
//! `watch` hears of changes on the way to the file, which `path` finds; `schedule` waits until related changes
//! are there; `reader` reads, parses and compares; `source` is the thread that does all this.

mod path;
mod reader;
mod schedule;
mod source;
mod watch;

pub(crate) use self::{source::FileSource, watch::WATCH_LIMIT};
