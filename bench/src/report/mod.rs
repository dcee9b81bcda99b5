//! Writes the report after all measurements.

mod plots;
mod tables;
mod targets;
mod write;

pub(crate) use self::{
    tables::grouped,
    write::{rewrite, write},
};
