//! UDP flows: which backend the datagrams of a socket go on to, and which VIP its answers come from.
//!
//! A flow is the same as an entry of connection tracking: a socket's port, a VIP and a port of it. It
//! lives as long as such an entry does (`nf_conntrack_udp_packet` in
//! net/netfilter/nf_conntrack_proto_udp.c, with the default timeouts).

pub mod rebind;
pub mod record;
pub mod relocate;
#[cfg(test)]
mod simulated;
pub mod table;
