//! A call as a hook sees it: the destination that the application wants, and its socket.

use crate::abi::{AppId, Protocol, VIP_RANGE};

/// Where an application wants to connect to, or to send a datagram to.
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
    /// It connects; otherwise it sends a datagram.
    pub connect: bool,
}

impl Destination {
    /// Whether the address is in the range of VIPs.
    #[inline(always)]
    pub fn may_be_vip(&self) -> bool {
        self.ip[..2] == VIP_RANGE
    }

    /// A UDP `connect` to port 0 can't lead to traffic. Resolvers do it to see which source address the
    /// route would give (`getaddrinfo` of glibc).
    #[inline(always)]
    pub(crate) fn is_route_probe(&self) -> bool {
        self.port == 0 && self.is_udp_connect()
    }

    #[inline(always)]
    pub(crate) fn is_udp_connect(&self) -> bool {
        self.connect && matches!(self.protocol, Protocol::Udp)
    }
}

/// What a hook knows of the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Its own port, host byte order; 0 if it has none yet.
    pub local_port: u16,
    /// Whether it is connected.
    pub connected: bool,
    /// To which address, network byte order.
    pub peer: [u8; 4],
    /// To which port, host byte order.
    pub peer_port: u16,
}

impl Socket {
    /// Whether the socket is connected to this very address and port.
    #[inline(always)]
    pub fn is_connected_to(&self, to: &Destination) -> bool {
        self.connected && self.peer == to.ip && self.peer_port == to.port
    }
}
