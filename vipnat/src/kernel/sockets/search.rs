//! Finds the sockets that hooks connected, by their records, and ends them.
//!
//! A socket counts as connected through a VIP if it has a record whose backend is its present peer. The
//! getpeername hooks decide the same way. All others stay as they are: sockets without a record, sockets
//! that have moved on to another peer, and UDP sockets that are not connected.

use std::{
    io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use vipnat_common::{
    ConnRecord,
    abi::{SocketFields, SocketRecord},
};

use super::{conn_records::ConnRecords, netns::Namespaces};
use crate::kernel::error::{Error, Result};

/// States of include/net/tcp_states.h. In TIME_WAIT, there is no full socket any more.
const ESTABLISHED: u32 = 1 << 1;
const SYN_SENT: u32 = 1 << 2;
const SYN_RECV: u32 = 1 << 3;
const FIN_WAIT: u32 = 1 << 4 | 1 << 5;
const CLOSING: u32 = 1 << 8 | 1 << 9 | 1 << 11;

/// A search for the sockets that one state directory's hooks have connected.
#[derive(Debug)]
pub(crate) struct Search {
    records: ConnRecords,
    namespaces: Namespaces,
}

/// A socket that is connected to the backend of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection(SocketRecord);

/// The result of ending a connection.
#[derive(Debug)]
pub(crate) enum End {
    /// The kernel ended it.
    Ended,
    /// The kernel finds no such socket by these addresses.
    NotFound,
    /// It stays connected, for this reason.
    Stays(String),
}

impl Search {
    /// Prepares a search in the maps of a state directory.
    pub(crate) fn new(state: &Path) -> Result<Self> {
        Ok(Self { records: ConnRecords::open(state)?, namespaces: Namespaces::default() })
    }

    /// Reads the present connections.
    pub(crate) fn connections(&mut self) -> Result<Vec<Connection>> {
        Ok(self.records.read()?.into_iter().filter_map(Connection::of).collect())
    }

    /// Enters the network namespaces of some connections, and asks the threads in these cgroups first.
    /// Returns whether it had to search, which takes time.
    pub(crate) fn reach<'a>(
        &mut self,
        connections: impl Iterator<Item = &'a Connection>,
        cgroups: impl Fn() -> Vec<PathBuf>,
    ) -> bool {
        let reachable = connections.filter(|connection| connection.can_be_ended());
        self.namespaces.enter(reachable.map(|Connection(found)| found.socket.namespace), cgroups)
    }

    /// Ends a connection, whose network namespace [`Search::reach`] must have entered before.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(crate) fn end(&self, connection: &Connection) -> Result<End> {
        let Connection(found) = connection;
        if !connection.can_be_ended() {
            return Ok(End::Stays(
                "they are MPTCP sockets, which the kernel cannot end".to_owned(),
            ));
        }
        let diag = match self.namespaces.way_into(found.socket.namespace) {
            Ok(diag) => diag,
            Err(why) => return Ok(End::Stays(why)),
        };
        match diag.end(found) {
            Ok(true) => Ok(End::Ended),
            Ok(false) => Ok(End::NotFound),
            Err(error) => Err(Error::Io {
                operation: "end a connection".to_owned(),
                source: without_destroy(error),
            }),
        }
    }
}

impl Connection {
    fn of(found: SocketRecord) -> Option<Self> {
        const TCP: u32 = ESTABLISHED | SYN_SENT | SYN_RECV | FIN_WAIT | CLOSING;
        let SocketFields { family, protocol, state, remote_port, remote_v4, remote_v6, .. } =
            found.socket;
        let states = match i32::from(protocol) {
            libc::IPPROTO_TCP | libc::IPPROTO_MPTCP => TCP,
            // UDP uses it for "connected".
            libc::IPPROTO_UDP => ESTABLISHED,
            _ => 0,
        };
        let ip = match i32::from(family) {
            libc::AF_INET => remote_v4,
            libc::AF_INET6 => Ipv6Addr::from(remote_v6).to_ipv4_mapped()?.octets(),
            _ => return None,
        };
        let connected = states & 1u32.checked_shl(u32::from(state)).unwrap_or(0) != 0;
        let peer = found.record.shown_peer(ip, u16::from_be_bytes(remote_port));
        (connected && peer.is_some()).then_some(Self(found))
    }

    /// The socket's cookie. No other socket ever has the same.
    pub(crate) fn cookie(&self) -> u64 {
        self.0.cookie
    }

    /// Its record.
    pub(crate) fn record(&self) -> &ConnRecord {
        &self.0.record
    }

    /// Whether it is a UDP socket. Such a socket can connect to another peer at any time.
    pub(crate) fn is_udp(&self) -> bool {
        i32::from(self.0.socket.protocol) == libc::IPPROTO_UDP
    }

    fn can_be_ended(&self) -> bool {
        i32::from(self.0.socket.protocol) != libc::IPPROTO_MPTCP
    }
}

/// Names the missing option of the kernel in its error EOPNOTSUPP (`inet_diag_cmd_exact` in
/// net/ipv4/inet_diag.c).
fn without_destroy(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel cannot end sockets; it needs CONFIG_INET_DIAG_DESTROY=y",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket of this family, protocol and state, whose record has the backend that it is connected to.
    fn found(family: i32, protocol: i32, state: u16) -> SocketRecord {
        let record = ConnRecord {
            backend: [247, 221, 81, 0],
            vip: [169, 254, 37, 209],
            backend_port: 5432,
            ..ConnRecord::default()
        };
        let socket = SocketFields {
            family: family as u16,
            protocol: protocol as u16,
            state,
            remote_port: 5432u16.to_be_bytes(),
            remote_v4: [247, 221, 81, 0],
            remote_v6: std::net::Ipv4Addr::new(247, 221, 81, 0).to_ipv6_mapped().octets(),
            ..SocketFields::default()
        };
        SocketRecord { record, socket, ..SocketRecord::default() }
    }

    #[test]
    fn a_connection_is_what_is_connected_to_what_is_recorded() {
        use libc::{AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP};
        let is_one = |found| Connection::of(found).is_some();
        for family in [AF_INET, AF_INET6] {
            for protocol in [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_MPTCP] {
                assert!(is_one(found(family, protocol, 1)), "{family} {protocol}");
                assert!(!is_one(found(family, protocol, 7)), "{family} {protocol} closed");
            }
            assert!(is_one(found(family, IPPROTO_TCP, 2)), "it is connecting");
            assert!(!is_one(found(family, IPPROTO_UDP, 2)));
        }
        let mut moved = found(AF_INET, IPPROTO_TCP, 1);
        moved.socket.remote_v4 = [247, 221, 81, 1];
        assert!(!is_one(moved), "it has moved on");
        let mut six = found(AF_INET6, IPPROTO_TCP, 1);
        six.socket.remote_v6[0] = 0x20;
        assert!(!is_one(six), "not a mapped address");
        assert!(!is_one(found(libc::AF_UNIX, IPPROTO_TCP, 1)));
        assert!(!is_one(found(AF_INET, IPPROTO_TCP, u16::MAX)));
    }
}
