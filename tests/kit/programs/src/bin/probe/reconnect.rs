//! Connects one socket twice.

use std::net::SocketAddr;

use clap::Args;
use nix::sys::socket::SockType;

use crate::{
    connect::talk,
    mapped, print,
    socket::{Socket, report},
};

#[derive(Args)]
pub(crate) struct Reconnect {
    /// The first address to connect to. If this fails, or with --unspec, a TCP socket can still connect to
    /// the second.
    first: SocketAddr,
    /// The second address to connect to.
    second: SocketAddr,
    /// Use a UDP socket.
    #[arg(long)]
    udp: bool,
    /// Call connect(AF_UNSPEC) in between, and report on that too. The report has a peer only if the socket
    /// is still connected.
    #[arg(long)]
    unspec: bool,
    /// Use an AF_INET6 socket and ::ffff:FIRST, ::ffff:SECOND.
    #[arg(long)]
    mapped: bool,
}

impl Reconnect {
    pub(crate) fn run(&self) {
        let Self { first, second, udp, unspec, mapped: use_mapped } = *self;
        let kind = if udp { SockType::Datagram } else { SockType::Stream };
        let address = |to| if use_mapped { mapped(to) } else { to };
        let socket = Socket::new(kind, address(first));

        print(&report(|report| talk(&socket, kind, address(first), report)));
        if unspec {
            print(&report(|report| {
                socket.dissolve()?;
                let _ = socket.names(report);
                Ok(())
            }));
        }
        print(&report(|report| talk(&socket, kind, address(second), report)));
    }
}
