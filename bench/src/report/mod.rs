//! The report that is written after all measurements.

mod plots;
mod tables;
mod targets;
mod write;

pub(crate) use self::{tables::grouped, write::write};
