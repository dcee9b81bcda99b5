//! What is written when all is measured.

mod plots;
mod tables;
mod targets;
mod write;

pub(crate) use self::{tables::grouped, write::write};
