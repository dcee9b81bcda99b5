//! Code that the hooks and user space share: the values in the maps ([`abi`]), the decision for each
//! connection ([`mod@decide`]), and the flows of UDP sockets ([`flow`]).
//!
//! Nothing here does I/O. The hooks run [`decide()`] over the kernel's maps, and tests run the same
//! code over maps in memory. Modules import downwards only:
//!
//! ```text
//! decide        flow::rebind       a new connection; a UDP flow that goes on
//!       outlined                   the parts that are separate functions in the hooks
//! lookup   flow::{relocate, table} find an entry; find a slot again; the flows of one socket
//!     maps     flow::record        raw reads of the maps; the record of a connect in a socket
//! verdict   destination   ticks    the answer, the destination asked for, coarse time
//!         abi         hooks        keys and values of the maps; the names of the hooks
//! ```

#![no_std]

pub mod abi;
pub mod decide;
pub mod destination;
pub mod flow;
pub mod hooks;
pub mod lookup;
pub mod maps;
pub mod outlined;
#[cfg(test)]
mod simulated;
pub mod ticks;
pub mod verdict;

pub use abi::{AppId, ConnRecord, Protocol, Range, Slot, SlotFlags, UdpFlow, UdpFlows, VipKey};
pub use decide::decide;
pub use destination::{Destination, Socket};
pub use flow::rebind::rebind;
pub use lookup::Lookup;
pub use maps::{Count, Maps};
pub use outlined::Outlined;
pub use ticks::Ticks;
pub use verdict::{Target, Verdict};
