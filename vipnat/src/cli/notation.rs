//! Writes the backends, limits and choices of a VIP.

use vipnat_common::{Protocol, abi::ANY_PORT};
use vipnat_core::{
    model::Backend,
    table::{Select, UdpPinning},
};

/// Writes each backend with its own port, if it has one, and its turns, if more than one.
pub(crate) fn backend_list(backends: &[(Backend, usize)], none: &str, between: &str) -> String {
    if backends.is_empty() {
        return none.to_owned();
    }
    let backend = |(Backend { ip, port }, turns): &(Backend, usize)| {
        let port = if *port == 0 { String::new() } else { format!(":{port}") };
        let turns = if *turns == 1 { String::new() } else { format!(" ×{turns}") };
        format!("{ip}{port}{turns}")
    };
    backends.iter().map(backend).collect::<Vec<_>>().join(between)
}

/// Marks backends that are chosen at random, or to which UDP flows are tied.
pub(crate) fn choices(select: Select, udp_pinning: UdpPinning) -> String {
    let random = match select {
        Select::RoundRobin => "",
        Select::Random => " (random)",
    };
    let strict = match udp_pinning {
        UdpPinning::Table => "",
        UdpPinning::Strict => " (udp strict)",
    };
    format!("{random}{strict}")
}

/// Writes the limit of a VIP to a port or protocol, such as `:6379/tcp`; empty without a limit.
pub(crate) fn limit(port: u16, protocol: Protocol) -> String {
    let port = if port == ANY_PORT { String::new() } else { format!(":{port}") };
    format!("{port}{}", protocol_name(protocol).map_or(String::new(), |name| format!("/{name}")))
}

/// The name of a protocol to which a table can limit a VIP.
pub(crate) fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp => Some("tcp"),
        Protocol::Udp => Some("udp"),
        _ => None,
    }
}
