//! What the kernel and the user-space side of vipnat agree on: the layout of the maps
//! ([`layout`]), the decision taken for each connection ([`mod@decide`]), and the flows of UDP
//! ([`flow`]).
//!
//! Nothing here does I/O. The hooks give [`decide()`] the real maps, tests give it simulated
//! ones, and both run the same code.

#![no_std]

mod bytes;
pub mod decide;
pub mod flow;
pub mod layout;

pub use decide::{Count, Destination, Look, Maps, Target, Verdict, decide, follow};
pub use flow::{Moment, Socket};
pub use layout::{Datagrams, Flow, Note, Protocol, Range, Slot, VipKey};
