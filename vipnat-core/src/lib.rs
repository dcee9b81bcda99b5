//! The pure part of vipnat: it reads no file, makes no system call, and builds and tests anywhere.
//!
//! [`table`] turns text into a checked relationship table. [`firewall`] translates between tables and
//! rules of iptables and nft. [`model`] says what the maps hold and what they should hold. [`plan`]
//! compares the two and orders the writes that lead from one to the other.

#![forbid(unsafe_code)]

pub mod firewall;
pub mod model;
pub mod plan;
pub mod table;
pub mod text;
