//! What the kernel and the user-space side of vipnat agree on: the layout of the maps
//! ([`layout`]) and the decision taken for each flow ([`mod@decide`]).
//!
//! Nothing here does I/O. The hooks give [`decide()`] the real maps, tests give it simulated
//! ones, and both run the same code.

#![no_std]

mod bytes;
pub mod decide;
pub mod layout;

pub use decide::{Destination, Maps, Verdict, decide};
pub use layout::{Flow, Protocol, Range, Slot, VipKey};
