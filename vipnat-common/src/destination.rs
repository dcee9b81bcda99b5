//! A call as a hook sees it: the destination that the application asks for, and its socket.

use crate::abi::{AppId, Protocol, VIP_RANGE};

/// The address to which an application connects or sends a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The app, from the cgroup's storage; never [`AppId::NONE`].
    pub app: AppId,
    /// Address, network byte order.
    pub ip: [u8; 4],
    /// Port, host byte order.
    pub port: u16,
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Whether the call is a connect; otherwise it sends a datagram.
    pub connect: bool,
}

impl Destination {
    /// Whether the address is in the range of VIPs.
    #[inline(always)]
    pub fn may_be_vip(&self) -> bool {
        self.ip[..2] == VIP_RANGE
    }

    /// A UDP `connect` to port 0 can't lead to traffic. Resolvers use it to learn the source address of the
    /// route (`getaddrinfo` of glibc).
    #[inline(always)]
    pub(crate) fn is_route_probe(&self) -> bool {
        self.port == 0 && self.is_udp_connect()
    }

    #[inline(always)]
    pub(crate) fn is_udp_connect(&self) -> bool {
        self.connect && matches!(self.protocol, Protocol::Udp)
    }
}

/// The state of a socket, as far as a hook needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Its own port, host byte order; 0 if it has none yet.
    pub local_port: u16,
    /// Whether it is connected.
    pub connected: bool,
    /// The address of its peer, network byte order.
    pub peer: [u8; 4],
    /// The port of its peer, host byte order.
    pub peer_port: u16,
}

impl Socket {
    /// Whether the socket is connected to exactly this address and port.
    #[inline(always)]
    pub fn is_connected_to(&self, to: &Destination) -> bool {
        self.connected && self.peer == to.ip && self.peer_port == to.port
    }
}
