//! The raw reads that a decision needs: the hooks give it the kernel's maps, tests give it theirs.

use crate::abi::{Range, Slot, VipKey};

/// Which count of a [`Cursor`](crate::abi::Cursor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// [`Cursor::turns`](crate::abi::Cursor::turns)
    Turns,
    /// [`Cursor::udp_connects`](crate::abi::Cursor::udp_connects)
    UdpConnects,
}

/// The maps, as far as the decision needs them.
pub trait Maps {
    /// The entry of `key` in `vips`. What it returns may belong to another key by then.
    fn entry(&self, key: &VipKey) -> Option<Range>;
    /// The slot at `index` of `backends`; `None` beyond the end of the map.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// Adds one to a count of a cursor and returns the count of before; `None` beyond the end of the
    /// map.
    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64>;
    /// What [`Maps::take_turn`] would return, without taking the turn.
    fn peek_turn(&self, cursor: u32, count: Count) -> Option<u64>;
    /// Any number, each as likely as the others.
    fn random(&self) -> u32;
}
