//! One socket, two connections.

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
    /// Where to connect to first. A TCP socket can go on from there if this fails, or with
    /// --unspec.
    first: SocketAddr,
    /// Where to connect to then.
    second: SocketAddr,
    /// A UDP socket.
    #[arg(long)]
    udp: bool,
    /// connect(AF_UNSPEC) in between; a report for that too, which has a peer only if the socket
    /// still does.
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
