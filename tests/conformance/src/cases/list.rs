//! The list of all cases.

use super::{
    changes,
    clients::{databases, files, languages, names, web},
    containers, errors, errors_udp, expiry, limits, reuse, reuse_udp, shared_backends,
    shared_ports, tcp, told, turns, udp, udp_addresses, udp_flows, udp_messages, unreached, ways,
    ways_mptcp,
};
use crate::Case;

/// All cases, in the order of docs/semantics.md. Those with long waits come last.
pub fn all() -> Vec<&'static Case> {
    [
        tcp::CASES,
        ways::CASES,
        ways_mptcp::CASES,
        reuse::CASES,
        reuse_udp::CASES,
        errors::CASES,
        errors_udp::CASES,
        limits::CASES,
        turns::CASES,
        changes::CASES,
        containers::CASES,
        shared_backends::CASES,
        told::CASES,
        unreached::CASES,
        udp::CASES,
        udp_addresses::CASES,
        udp_messages::CASES,
        udp_flows::CASES,
        shared_ports::CASES,
        languages::CASES,
        databases::CASES,
        names::CASES,
        web::CASES,
        files::CASES,
        expiry::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
