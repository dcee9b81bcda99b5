//! The cases, by topic.

mod changes;
mod clients;
mod containers;
mod errors;
mod expiry;
mod limits;
mod reuse;
mod tcp;
mod turns;
mod udp;
mod udp_flows;
mod udp_messages;
mod ways;

use super::{Case, Container, Record, db};

/// All cases, in the order of docs/semantics.md; those that wait long come last.
pub fn all() -> Vec<&'static Case> {
    [
        tcp::CASES,
        ways::CASES,
        reuse::CASES,
        errors::CASES,
        limits::CASES,
        turns::CASES,
        changes::CASES,
        containers::CASES,
        udp::CASES,
        udp_messages::CASES,
        udp_flows::CASES,
        expiry::CASES,
    ]
    .iter()
    .chain(clients::CASES)
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
