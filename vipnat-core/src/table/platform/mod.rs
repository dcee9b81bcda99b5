//! Writes and imports `PLATFORM_RELATIONSHIPS`, the variable from which applications read their endpoints.

mod read;
mod reader;
mod write;

pub use self::read::{Imported, Unsupported};
