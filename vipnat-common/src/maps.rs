//! The raw reads that a decision needs. The hooks give it the kernel's maps, tests give it their own.

use crate::abi::{Range, Slot, VipKey};

/// One of the two counts of a [`Cursor`](crate::abi::Cursor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// [`Cursor::turns`](crate::abi::Cursor::turns)
    Turns,
    /// [`Cursor::udp_connects`](crate::abi::Cursor::udp_connects)
    UdpConnects,
}

/// The maps, as far as the decision needs them.
pub trait Maps {
    /// The entry of `key` in `vips`. The returned value may belong to another key by then.
    fn entry(&self, key: &VipKey) -> Option<Range>;
    /// The slot at `index` of `backends`; `None` beyond the end of the map.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// Adds one to a count of a cursor and returns the old count; `None` beyond the end of the map.
    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64>;
    /// The value that [`Maps::take_turn`] would return. Takes no turn.
    fn peek_turn(&self, cursor: u32, count: Count) -> Option<u64>;
    /// A random number; all numbers are equally likely.
    fn random(&self) -> u32;
}
