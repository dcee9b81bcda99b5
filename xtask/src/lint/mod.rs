//! `cargo xtask lint`: formatting, structure, clippy for both targets, and documentation.

mod stages;
mod structure;

pub(crate) use self::stages::Lint;
