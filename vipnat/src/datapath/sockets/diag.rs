//! Sockets of a network namespace, listed and ended through `sock_diag(7)`.
//!
//! The messages are those of include/uapi/linux/inet_diag.h, made and read byte by byte.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Types and flags of messages.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

/// The size of `struct nlmsghdr`.
const HEADER: usize = 16;

/// The kernel fills no message larger than 32 KiB (`netlink_dump` in net/netlink/af_netlink.c).
const BUFFER: usize = 1 << 16;

/// Which sockets to list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: libc::c_int,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub(super) protocol: libc::c_int,
    /// A bit for each state of include/net/tcp_states.h.
    pub(super) states: u32,
}

/// `struct inet_diag_sockid`: addresses, ports, interface and cookie, all of which the kernel compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId([u8; 48]);

impl SocketId {
    /// The cookie, which no other socket ever has.
    pub(super) fn cookie(&self) -> u64 {
        let Self([.., a, b, c, d, e, f, g, h]) = *self;
        // Two words, the lower one first (`sock_diag_save_cookie` in net/core/sock_diag.c).
        let word = |bytes| u64::from(u32::from_ne_bytes(bytes));
        word([a, b, c, d]) | word([e, f, g, h]) << 32
    }

    /// Address and port of the peer; `None` if it is an IPv6 address that is not IPv4-mapped.
    pub(super) fn peer(&self, kind: Kind) -> Option<([u8; 4], u16)> {
        let Self([_, _, port_0, port_1, rest @ ..]) = self;
        let ip: [u8; 16] = *rest[16..].first_chunk()?;
        let ip = match kind.family {
            libc::AF_INET => *ip.first_chunk()?,
            _ => std::net::Ipv6Addr::from(ip).to_ipv4_mapped()?.octets(),
        };
        Some((ip, u16::from_be_bytes([*port_0, *port_1])))
    }
}

/// A socket that speaks to the kernel about the sockets of the namespace it was made in, whichever
/// thread uses it.
#[derive(Debug)]
pub(super) struct Diag(OwnedFd);

impl Diag {
    /// For the network namespace of the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// The sockets of a kind.
    pub(super) fn list(&self, kind: Kind) -> io::Result<Vec<SocketId>> {
        self.send(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, kind, SocketId([0; 48]))?;
        let (mut buffer, mut ids) = (vec![0; BUFFER], Vec::new());
        loop {
            let mut messages = self.receive(&mut buffer)?;
            while let Some((message, payload)) = next_message(&mut messages) {
                match message {
                    DONE | ERROR => return result(payload).map(|()| ids),
                    SOCK_DIAG_BY_FAMILY => ids.extend(id(payload)),
                    _ => {}
                }
            }
        }
    }

    /// Ends a socket: TCP sends a reset, and whoever has it gets ECONNABORTED. Returns whether it was
    /// still there (needs CAP_NET_ADMIN over the namespace).
    pub(super) fn end(&self, kind: Kind, id: SocketId) -> io::Result<bool> {
        self.send(SOCK_DESTROY, REQUEST | ACK, kind, id)?;
        let mut buffer = vec![0; BUFFER];
        let mut messages = self.receive(&mut buffer)?;
        match next_message(&mut messages) {
            Some((ERROR, payload)) => match result(payload) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
                other => other.map(|()| true),
            },
            _ => Err(garbled()),
        }
    }

    /// `struct inet_diag_req_v2`, after the header of every message.
    fn send(&self, message: u16, flags: u16, kind: Kind, id: SocketId) -> io::Result<()> {
        let Kind { family, protocol, states } = kind;
        let mut bytes = Vec::new();
        bytes.extend(0u32.to_ne_bytes()); // The length comes below.
        bytes.extend(message.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // Sequence number and sender: there is one question at a time.
        bytes.extend([family as u8, protocol as u8, 0, 0]);
        bytes.extend(states.to_ne_bytes());
        bytes.extend(id.0);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // With this flag the size is that of the whole message, even if it did not fit.
        let size = recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?;
        buffer.get(..size).ok_or_else(garbled)
    }
}

/// Takes the next message: its type and what follows the header.
fn next_message<'a>(bytes: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let message = bytes.get(..length)?;
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let payload = message.get(HEADER..)?;
    *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, payload))
}

/// The id of a socket that was listed, in `struct inet_diag_msg`.
fn id(payload: &[u8]) -> Option<SocketId> {
    // After family, state, timer and retransmissions.
    Some(SocketId(*payload.get(4..)?.first_chunk()?))
}

/// What the last message says: a negative error number, or none.
fn result(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|errno| i32::from_ne_bytes(*errno)) {
        Some(0) => Ok(()),
        Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        // A dump's end without a result, as older kernels have it, or with the number of its bytes.
        _ => Ok(()),
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is garbled")
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const UDP: Kind = Kind { family: libc::AF_INET, protocol: libc::IPPROTO_UDP, states: 2 };

    #[test]
    fn the_peer_is_the_one_of_the_id() {
        let mut id = [0; 48];
        id[2..4].copy_from_slice(&[0x15, 0x38]);
        id[20..24].copy_from_slice(&[247, 221, 81, 0]);
        assert_eq!(SocketId(id).peer(UDP), Some(([247, 221, 81, 0], 5432)));
        let six = Kind { family: libc::AF_INET6, ..UDP };
        assert_eq!(SocketId(id).peer(six), None, "not a mapped address");
        id[20..36].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 247, 221, 81, 0]);
        assert_eq!(SocketId(id).peer(six), Some(([247, 221, 81, 0], 5432)));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes: Vec<u8>) {
            let mut messages = bytes.as_slice();
            while let Some((_, payload)) = next_message(&mut messages) {
                let _ = (id(payload), result(payload));
            }
        }
    }

    #[test]
    fn a_connected_socket_is_listed_with_its_peer_and_cookie() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0"));
        let (server, client) = (server.unwrap(), client.unwrap());
        let address = server.local_addr().unwrap();
        client.connect(address).unwrap();
        let peer = Some(([127, 0, 0, 1], address.port()));
        let ids = Diag::new().unwrap().list(UDP).unwrap();
        let id = ids.iter().find(|id| id.peer(UDP) == peer).expect("is listed");
        assert_ne!(id.cookie(), 0);
    }
}
