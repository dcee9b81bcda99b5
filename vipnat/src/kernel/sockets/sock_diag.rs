//! Ends sockets of a network namespace through `sock_diag(7)`.
//!
//! It builds and reads the messages of include/uapi/linux/inet_diag.h byte by byte: one request and its
//! acknowledgement.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use vipnat_common::abi::{SocketFields, SocketRecord};

/// Types and flags of netlink messages.
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// The size of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Room for an answer, which quotes the request.
const BUFFER: usize = 512;

/// A netlink socket for the sockets of one network namespace: that of the thread which made it.
#[derive(Debug)]
pub(crate) struct Diag(OwnedFd);

impl Diag {
    /// Makes one in the network namespace of the calling thread.
    pub(crate) fn new() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Ends a TCP or UDP socket: TCP sends a reset, and its process gets ECONNABORTED. The kernel finds the
    /// socket by addresses, ports and device, and then compares the cookie. Returns whether the socket still
    /// existed. It needs CAP_NET_ADMIN over the namespace.
    pub(crate) fn end(&self, socket: &SocketRecord) -> io::Result<bool> {
        send(self.0.as_raw_fd(), &request(socket), MsgFlags::empty())?;
        let mut buffer = [0; BUFFER];
        // With this flag, the kernel returns the size of the whole message, even if it is too long.
        let size = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC)?;
        let answer = buffer.get(..size).and_then(result).ok_or_else(garbled)?;
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// `struct inet_diag_req_v2` with a `struct inet_diag_sockid`, after the header of every message.
fn request(socket: &SocketRecord) -> Vec<u8> {
    let SocketRecord { cookie, record: _, socket, reserved: _ } = socket;
    let SocketFields { family, protocol, state: _, local_port, remote_port, device, .. } = *socket;
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(72u32.to_ne_bytes());
    bytes.extend(SOCK_DESTROY.to_ne_bytes());
    bytes.extend((REQUEST | ACK).to_ne_bytes());
    bytes.extend([0; 8]); // Sequence number and sender: only one request is under way.
    bytes.extend([family as u8, protocol as u8, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // In any state.
    bytes.extend(local_port.to_be_bytes());
    bytes.extend(remote_port);
    let addresses = if i32::from(family) == libc::AF_INET6 {
        [socket.local_v6, socket.remote_v6]
    } else {
        [socket.local_v4, socket.remote_v4].map(|address| {
            let mut long = [0; 16];
            long[..4].copy_from_slice(&address);
            long
        })
    };
    bytes.extend(addresses.as_flattened());
    bytes.extend(device.to_ne_bytes());
    // Two words, the lower one first (`sock_diag_save_cookie` in net/core/sock_diag.c).
    bytes.extend((*cookie as u32).to_ne_bytes());
    bytes.extend(((cookie >> 32) as u32).to_ne_bytes());
    bytes
}

/// Parses an answer: an acknowledgement, or an error number.
fn result(bytes: &[u8]) -> Option<io::Result<()>> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let message = bytes.get(..length)?;
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let errno = i32::from_ne_bytes(*message.get(HEADER..)?.first_chunk()?);
    if kind != ERROR {
        return None;
    }
    Some(if errno == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(errno.checked_neg().unwrap_or(libc::EIO)))
    })
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is garbled")
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn cookie(socket: &UdpSocket) -> u64 {
        let (mut cookie, mut size) = (0u64, size_of::<u64>() as libc::socklen_t);
        // SAFETY: the kernel writes this number of bytes, and any bytes are a valid number.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        assert_eq!(result, 0);
        cookie
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes: Vec<u8>) {
            let _ = result(&bytes);
        }
    }

    #[test]
    fn a_socket_is_ended_by_its_addresses_ports_and_cookie_all_of_them() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        let (server, client) = (server.unwrap(), client.unwrap());
        let address = server.local_addr().unwrap();
        client.connect(address).unwrap();
        let fields = SocketFields {
            family: libc::AF_INET as u16,
            protocol: libc::IPPROTO_UDP as u16,
            local_port: client.local_addr().unwrap().port(),
            remote_port: address.port().to_be_bytes(),
            local_v4: [127, 0, 0, 1],
            remote_v4: [127, 0, 0, 1],
            ..SocketFields::default()
        };
        let cookie = cookie(&client);
        let socket = SocketRecord { cookie, socket: fields, ..SocketRecord::default() };
        let diag = Diag::new().unwrap();
        let other = |fields| SocketRecord { socket: fields, ..socket };
        let elsewhere = [
            SocketRecord { cookie: cookie + (1 << 40), ..socket },
            other(SocketFields { remote_v4: [127, 0, 0, 2], ..fields }),
            other(SocketFields { remote_port: [0, 1], ..fields }),
            other(SocketFields { local_port: 1, ..fields }),
        ];
        for elsewhere in elsewhere {
            match diag.end(&elsewhere) {
                Ok(ended) => assert!(!ended, "{elsewhere:?}"),
                Err(error) => {
                    eprintln!("NOT RUN: this test needs CAP_NET_ADMIN ({error})");
                    return;
                }
            }
        }
        assert!(client.peer_addr().is_ok());
        assert!(diag.end(&socket).unwrap());
        assert!(client.peer_addr().is_err());
        assert!(!diag.end(&socket).unwrap(), "it is not connected any more");
    }
}
