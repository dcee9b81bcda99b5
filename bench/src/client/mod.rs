//! The client: does what the driver tells it to on standard input, one thing at a time.
//!
//! It is one process for all modes, so that none has another layout of memory than the others.

mod operations;
mod serve;
mod several;
mod sockets;
mod timing;

pub(crate) use self::serve::run;
