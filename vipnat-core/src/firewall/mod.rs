//! What a table means for an app, as rules for the network namespace of its container.
//!
//! [`iptables`] and [`nft`] are pure functions of a checked table. The rules do by NAT and
//! connection tracking what vipnat does in `connect`, so they are for the machines and protocols that
//! vipnat can't serve, and the measure that it is compared with. [`import`] reads rules.

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
