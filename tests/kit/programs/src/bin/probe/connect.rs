//! The ways to connect.

use std::{io, net::SocketAddr};

use nix::{errno::Errno, sys::socket::SockType};
use vipnat_testkit::Report;

use crate::{
    print,
    socket::{Failure, Result, Socket, name, report},
};

pub(crate) fn tcp(to: SocketAddr) -> Report {
    let socket = Socket::new(SockType::Stream, to);
    report(|report| talk(&socket, SockType::Stream, to, report))
}

pub(crate) fn udp(to: SocketAddr) -> Report {
    let socket = Socket::new(SockType::Datagram, to);
    report(|report| talk(&socket, SockType::Datagram, to, report))
}

/// Connects, and reads the banner.
pub(crate) fn talk(
    socket: &Socket,
    kind: SockType,
    to: SocketAddr,
    report: &mut Report,
) -> Result<()> {
    socket.connect(to)?;
    socket.names(report)?;
    if kind == SockType::Datagram {
        socket.send(b"?")?;
    }
    report.banner = Some(socket.line(kind)?);
    Ok(())
}

pub(crate) fn nonblocking(to: SocketAddr) -> Report {
    let socket = Socket::new(SockType::Stream, to);
    socket.set_nonblocking(true);
    report(|report| {
        // The second call finds the connection in progress or, over a local link, established.
        for expected in [&[Errno::EINPROGRESS][..], &[Errno::EALREADY, Errno::EISCONN]] {
            match socket.connect(to) {
                Ok(()) => report.attempts.push("OK".to_owned()),
                Err(Failure { call, errno }) => {
                    report.attempts.push(name(errno));
                    if !expected.contains(&errno) {
                        return Err(Failure { call, errno });
                    }
                }
            }
        }
        socket.connected()?;
        socket.names(report)?;
        socket.set_nonblocking(false);
        report.banner = Some(socket.line(SockType::Stream)?);
        Ok(())
    })
}

pub(crate) fn fastopen(to: SocketAddr) -> Report {
    let socket = Socket::new(SockType::Stream, to);
    report(|report| {
        socket.fastopen(to, b"?")?;
        socket.names(report)?;
        report.banner = Some(socket.line(SockType::Stream)?);
        Ok(())
    })
}

pub(crate) fn hold(to: SocketAddr, udp: bool) {
    let kind = if udp { SockType::Datagram } else { SockType::Stream };
    let socket = Socket::new(kind, to);
    print(&report(|report| talk(&socket, kind, to, report)));
    for line in io::stdin().lines() {
        line.expect("read standard input");
        print(&report(|report| {
            socket.names(report)?;
            socket.send(b"?")?;
            report.banner = Some(socket.line(kind)?);
            Ok(())
        }));
    }
}
