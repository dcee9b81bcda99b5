//! The system calls that are measured, with as little code around them as possible.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, setsockopt, sockopt::Linger,
};

pub(crate) fn address(ip: Ipv4Addr, port: u16) -> SockaddrIn {
    SockaddrIn::from(SocketAddrV4::new(ip, port))
}

pub(crate) fn udp() -> io::Result<OwnedFd> {
    Ok(socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?)
}

/// Makes a TCP socket that resets its connection on close, so that nothing of the connection remains.
pub(crate) fn tcp() -> io::Result<OwnedFd> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(socket)
}

pub(crate) fn connect(socket: &OwnedFd, to: &SockaddrIn) -> io::Result<()> {
    Ok(socket::connect(socket.as_raw_fd(), to)?)
}

pub(crate) fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<usize> {
    Ok(socket::send(socket.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?)
}

pub(crate) fn sendto(socket: &OwnedFd, message: &[u8], to: &SockaddrIn) -> io::Result<usize> {
    Ok(socket::sendto(socket.as_raw_fd(), message, to, MsgFlags::empty())?)
}

pub(crate) fn recv(socket: &OwnedFd, message: &mut [u8]) -> io::Result<usize> {
    Ok(socket::recv(socket.as_raw_fd(), message, MsgFlags::empty())?)
}

/// Receives a datagram, with its sender's address.
pub(crate) fn recvfrom(
    socket: &OwnedFd,
    message: &mut [u8],
) -> io::Result<(usize, Option<SockaddrIn>)> {
    Ok(socket::recvfrom(socket.as_raw_fd(), message)?)
}

pub(crate) fn peer(socket: &OwnedFd) -> io::Result<SockaddrIn> {
    Ok(socket::getpeername(socket.as_raw_fd())?)
}
