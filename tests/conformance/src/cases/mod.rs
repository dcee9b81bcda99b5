//! The cases, by topic.

mod changes;
mod clients;
mod containers;
mod errors;
mod errors_udp;
mod expiry;
mod limits;
mod reuse;
mod reuse_udp;
mod shared_backends;
mod shared_ports;
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

use super::{Case, Container, Record, db};

/// All cases, in the order of docs/semantics.md; those that wait long come last.
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
    ]
    .iter()
    .chain(clients::CASES)
    .chain([&expiry::CASES])
    .copied()
    .flatten()
    .collect()
}

/// Plays a script in a process of a container whose `db` has these backends.
fn play(container: &Container, record: &mut Record, backends: &[u8], script: &str) {
    container.apply(&db(backends));
    container.session().play(script, record);
}

/// A table in which `db` is backend 1 and `cache` is backend 2.
fn two_services() -> String {
    let cache = "[services.cache]\nbackends = [\"247.221.81.2\"]\n\
                 [apps.app.relationships.cache]\nservice = \"cache\"\n";
    db(&[1]) + cache
}
