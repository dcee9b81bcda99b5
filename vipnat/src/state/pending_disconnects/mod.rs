//! Connections that are still to be ended, and when.

mod list;
mod paths;

pub(crate) use self::list::*;
