//! Finds sockets that are connected through a VIP, and ends them.

mod conn_records;
mod netns;
mod search;
mod sock_diag;
mod sock_offsets;

pub(crate) use self::search::{Connection, End, Search};
