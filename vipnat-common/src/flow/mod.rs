//! UDP flows: the backend to which the datagrams of a socket go on, and the VIP that its answers show.
//!
//! A flow matches an entry of connection tracking: a socket's port, a VIP and a port of the VIP. It lives
//! as long as such an entry (`nf_conntrack_udp_packet` in net/netfilter/nf_conntrack_proto_udp.c, with the
//! default timeouts).

pub mod rebind;
pub mod record;
pub mod relocate;
#[cfg(test)]
mod simulated;
pub mod table;
