//! Exports a table as rules of iptables and nft, and imports such rules.
//!
//! [`iptables()`] and [`nft()`] export the relationships of an app as rules for the network namespace of its
//! container. The rules use NAT and connection tracking instead of hooks in `connect`. They serve machines
//! and protocols that vipnat can't serve, and tests compare vipnat with them. [`import()`] makes
//! relationships of the rules that `iptables-save` prints.

mod beside;
mod entry;
mod import;
mod iptables;
mod nft;

pub use self::{
    entry::Packets,
    import::{Import, Remark, import},
    iptables::iptables,
    nft::nft,
};
