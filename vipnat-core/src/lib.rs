//! The pure part of vipnat. It reads no file and makes no system call, so it builds and tests on any Unix.
//!
//! | module | purpose | start with |
//! | --- | --- | --- |
//! | [`table`] | turns text into a checked table, or into a list of its mistakes | [`table::Table::parse`] |
//! | [`firewall`] | writes a table as rules of iptables and nft, and reads such rules | [`firewall::import()`] |
//! | [`model`] | describes the maps as they are, as they should be, and the difference for people | [`model::Snapshot`], [`model::Desired`] |
//! | [`plan`] | computes the writes that lead from one to the other, orders them, and carries them out | [`plan::Plan`], [`plan::Step`] |
//! | [`text`] | escapes text from outside before a terminal shows it | [`text::shown`] |
//!
//! The order of writes is in `plan/steps.rs` alone. `plan/tests/interleavings` runs it against hooks that read at
//! any time.
//!
//! `vipnat_common` is below: the keys and values of the maps, and the decision of the hooks. The program is the
//! crate `vipnat`.

#![forbid(unsafe_code)]

pub mod firewall;
pub mod model;
pub mod plan;
pub mod table;
pub mod text;
