//! A server on 127.0.0.1 in the container, like a sidecar.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{Container, Record};

/// Plays a script beside a server on 127.0.0.1.
pub(super) fn play_beside_sidecar(
    container: &Container,
    record: &mut Record,
    table: &str,
    script: &str,
) {
    let sidecar = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5432);
    let _server = container.serve_inside(&[("sidecar", sidecar)]);
    container.play(table, script, record);
}
