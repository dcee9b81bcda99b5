//! Keys and values of the pinned maps, as the kernel sees them.
//!
//! Addresses are byte arrays in network order and ports are in host order, so that `bpftool map dump`
//! reads like the relationship table. Fields are plain numbers, because bpftool shows a newtype as a
//! struct inside the struct. Methods take and return the types, such as [`AppId`] and [`SlotFlags`].
//!
//! No type has padding, which the compiler may leave uninitialised. The verifier refuses keys with
//! padding, and equal keys would differ. `zerocopy` checks this where a type derives `IntoBytes`.
//!
//! A change of any type here, or of the meaning of a field, needs a new [`LAYOUT`]. [`Scope`] and [`Layout`]
//! are frozen for ever; see there.

mod bytes;
pub mod keys;
pub mod slots;
pub mod socket;
pub mod state;

pub use keys::{ANY_PORT, AppId, Protocol, VIP_RANGE, VipKey};
pub use slots::{Cursor, Range, Slot, SlotFlags};
pub use socket::{
    ConnRecord, SocketFields, SocketOffsets, SocketRecord, UdpFlow, UdpFlowFlags, UdpFlows,
};
pub use state::{Counters, LAYOUT, Layout, Scope, capacity};
