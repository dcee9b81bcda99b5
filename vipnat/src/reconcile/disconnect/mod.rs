//! Ends connections to backends that are no longer in the table.

mod passes;
mod session;

pub(crate) use self::session::Left;
pub use self::session::{Connections, Drained};
