//! The cases, by topic.

mod changes;
mod clients;
mod containers;
mod errors;
mod errors_udp;
mod expiry;
mod limits;
mod list;
mod reuse;
mod reuse_udp;
mod shared_backends;
mod shared_ports;
mod sidecar;
mod tcp;
mod told;
mod turns;
mod udp;
mod udp_addresses;
mod udp_flows;
mod udp_messages;
mod unreached;
mod ways;
mod ways_mptcp;

pub use self::list::all;
