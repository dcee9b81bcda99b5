//! `PLATFORM_RELATIONSHIPS`, the variable that applications read their endpoints from: both ways.

mod read;
mod reader;
mod write;

pub use self::read::{Imported, Unsupported};
