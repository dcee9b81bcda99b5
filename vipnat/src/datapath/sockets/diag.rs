//! Sockets of a network namespace, listed and ended through `sock_diag(7)`.
//!
//! The messages are those of include/uapi/linux/inet_diag.h, made and read byte by byte.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
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

/// Attributes: maps to read socket storage from, and what it held.
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
/// The bits of an attribute's type that are not flags.
const TYPE: u16 = libc::NLA_TYPE_MASK as u16;

/// `struct nlmsghdr`, `struct inet_diag_msg`, `struct nlattr`.
const HEADER: usize = 16;
const SOCKET: usize = 72;
const ATTRIBUTE: usize = 4;

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

/// `struct inet_diag_sockid`: addresses, ports, interface and cookie. The cookie is never given to
/// another socket, and the kernel compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId([u8; 48]);

impl SocketId {
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

    /// Gives every socket that has storage of `V` bytes in this map to `each`, with what it holds
    /// (kernel 5.7; needs CAP_BPF).
    pub(super) fn with_storage<const V: usize>(
        &self,
        kind: Kind,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(SocketId, &[u8; V]),
    ) -> io::Result<()> {
        let map = attribute(SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &map.as_raw_fd().to_ne_bytes());
        let maps = attribute(INET_DIAG_REQ_SK_BPF_STORAGES, &map);
        let any = SocketId([0; 48]);
        self.send(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, kind, any, &maps)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut messages = self.receive(&mut buffer)?;
            while let Some((message, payload)) = next_message(&mut messages) {
                match message {
                    DONE | ERROR => return result(payload),
                    SOCK_DIAG_BY_FAMILY => {
                        if let Some((id, value)) = storage(payload) {
                            each(id, value);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends a socket: TCP sends a reset, and whoever has it gets ECONNABORTED. Returns whether it was
    /// still there (needs CAP_NET_ADMIN over the namespace).
    pub(super) fn end(&self, kind: Kind, id: SocketId) -> io::Result<bool> {
        self.send(SOCK_DESTROY, REQUEST | ACK, kind, id, &[])?;
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
    fn send(
        &self,
        message: u16,
        flags: u16,
        kind: Kind,
        id: SocketId,
        attributes: &[u8],
    ) -> io::Result<()> {
        let Kind { family, protocol, states } = kind;
        let mut bytes = Vec::new();
        bytes.extend(0u32.to_ne_bytes()); // The length comes below.
        bytes.extend(message.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]); // Sequence number and sender: there is one question at a time.
        bytes.extend([family as u8, protocol as u8, 0, 0]);
        bytes.extend(states.to_ne_bytes());
        bytes.extend(id.0);
        bytes.extend(attributes);
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

/// An attribute, whose payload is as long as alignment wants it.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = (ATTRIBUTE + payload.len()) as u16;
    [&length.to_ne_bytes(), &kind.to_ne_bytes(), payload].concat()
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

/// Takes the next attribute: its type and payload.
fn next_attribute<'a>(bytes: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let attribute = bytes.get(..length)?;
    let kind = u16::from_ne_bytes(*attribute.get(2..)?.first_chunk()?);
    let payload = attribute.get(ATTRIBUTE..)?;
    *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind & TYPE, payload))
}

/// The first attribute of a type.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some((this, payload)) = next_attribute(&mut attributes) {
        if this == kind {
            return Some(payload);
        }
    }
    None
}

/// The id of a socket that was listed, and what its storage holds.
fn storage<const V: usize>(payload: &[u8]) -> Option<(SocketId, &[u8; V])> {
    // Before the id: family, state, timer, retransmissions.
    let id = SocketId(*payload.get(4..)?.first_chunk()?);
    let storages = find(payload.get(SOCKET..)?, INET_DIAG_SK_BPF_STORAGES)?;
    let value = find(find(storages, SK_DIAG_BPF_STORAGE)?, SK_DIAG_BPF_STORAGE_MAP_VALUE)?;
    Some((id, value.first_chunk()?))
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

    #[test]
    fn storage_is_found_among_other_attributes() {
        let value = attribute(SK_DIAG_BPF_STORAGE_MAP_VALUE, &[7; 32]);
        let id = attribute(2, &[0; 4]);
        let nested = attribute(SK_DIAG_BPF_STORAGE | 0x8000, &[id, value].concat());
        let storages = attribute(INET_DIAG_SK_BPF_STORAGES | 0x8000, &nested);
        // One whose payload ends before the next one begins.
        let shutdown = [attribute(8, &[3]), vec![0; 3]].concat();
        let socket = [vec![1; SOCKET], shutdown.clone(), storages].concat();
        assert_eq!(storage(&socket), Some((SocketId([1; 48]), &[7; 32])));
        assert_eq!(storage::<32>(&[vec![1; SOCKET], shutdown].concat()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(bytes: Vec<u8>) {
            let mut messages = bytes.as_slice();
            while let Some((_, payload)) = next_message(&mut messages) {
                let _ = (storage::<32>(payload), result(payload));
            }
            let _ = storage::<32>(&bytes);
        }
    }

    #[test]
    fn the_kernel_answers_and_ends_nothing_that_is_not_there() {
        let diag = Diag::new().unwrap();
        // Not a map: an error of the dump. Without the capability, that.
        let file = std::fs::File::open("/dev/null").unwrap();
        let map = std::os::fd::AsFd::as_fd(&file);
        let error = diag.with_storage::<32>(UDP, map, |_, _| {}).unwrap_err();
        assert!([libc::EINVAL, libc::EPERM].contains(&error.raw_os_error().unwrap()), "{error}");
    }
}
