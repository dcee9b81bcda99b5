//! The client: carries out commands of the driver from standard input, one at a time.
//!
//! One process serves all modes, so that its memory layout is the same in each.

mod operations;
mod serve;
mod several;
mod sockets;
mod timing;

pub(crate) use self::serve::run;
