//! The difference between what the maps hold and what they should hold, and the writes that make it.

mod diff;
#[cfg(test)]
mod tests;

pub use self::diff::{MappingChange, Plan, Reclaim, changes};
