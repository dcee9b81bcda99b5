//! Sockets that are connected through a VIP, found and ended.

mod conn_records;
mod netns;
mod search;
mod sock_diag;
mod sock_offsets;

pub(crate) use self::search::{Connection, End, Search};
