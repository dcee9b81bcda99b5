//! Rules of iptables and nft that do the same as a table, both ways.
//!
//! [`iptables()`] and [`nft()`] export the relationships of an app as rules for the network namespace of its
//! container. These use NAT and connection tracking for what vipnat does in `connect`. They serve machines
//! and protocols that vipnat can't, and tests compare vipnat with them. [`import()`] makes relationships of
//! rules that `iptables-save` prints.

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
