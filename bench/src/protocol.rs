//! The protocol between driver and client: a JSON line for each command, and one for its answer.

use std::{fmt, net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The ports on which the server listens, at each address of a backend.
pub(crate) mod port {
    /// Connections wait to be accepted until the driver tells the server to drain them.
    pub(crate) const CONNECT: u16 = 7000;
    /// Answers one request, then closes.
    pub(crate) const CLOSE: u16 = 7001;
    /// Answers requests.
    pub(crate) const ECHO: u16 = 7002;
    /// Takes all data, and answers its end with a byte.
    pub(crate) const SINK: u16 = 7003;
    /// Answers datagrams.
    pub(crate) const UDP_ECHO: u16 = 7004;
    /// Drops datagrams before they are queued.
    pub(crate) const UDP_SINK: u16 = 7005;
    /// The server does not listen here.
    pub(crate) const CLOSED: u16 = 7006;
}

/// The size of requests, responses and datagrams.
pub(crate) const MESSAGE: usize = 64;

/// The operation that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// `connect()` again, on a UDP socket that was already connected.
    UdpReconnect,
    /// `socket()`, `connect()` and `close()` of a UDP socket.
    UdpFresh,
    /// The same, to an address that no VIP can have.
    UdpFreshElsewhere,
    /// The same, to an address in the range of VIPs that is no VIP.
    UdpFreshNoVip,
    /// A UDP flow of one datagram: `socket()`, `connect()`, `send()`, `close()`.
    UdpFlow,
    /// `connect()` of a TCP socket.
    TcpConnect,
    /// Connect, request, response, close.
    TcpCrr,
    /// Request, response.
    TcpRr,
    /// A megabyte, with both ends on one CPU.
    TcpBulk,
    /// `send()` on a connected UDP socket.
    UdpSend,
    /// `sendto()` on a UDP socket that is not connected, again and again to one address.
    UdpSendto,
    /// `send()` and `recv()` on a connected UDP socket.
    UdpRr,
    /// `sendto()` and `recvfrom()` on a UDP socket that is not connected.
    UdpRrUnconnected,
    /// `getpeername()` of a connected UDP socket.
    Getpeername,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UdpReconnect => "UDP connect() again",
            Self::UdpFresh => "UDP socket, connect, close",
            Self::UdpFreshElsewhere => "UDP socket, connect, close to an address elsewhere",
            Self::UdpFreshNoVip => "UDP socket, connect, close to 169.254/16, no VIP",
            Self::UdpFlow => "UDP socket, connect, send, close",
            Self::TcpConnect => "TCP connect()",
            Self::TcpCrr => "TCP connect, request, response, close",
            Self::TcpRr => "TCP request, response",
            Self::TcpBulk => "TCP, a megabyte, both ends on one CPU",
            Self::UdpSend => "UDP send(), connected",
            Self::UdpSendto => "UDP sendto(), not connected",
            Self::UdpRr => "UDP request, response, connected",
            Self::UdpRrUnconnected => "UDP request, response, not connected",
            Self::Getpeername => "getpeername()",
        })
    }
}

/// The VIPs to which the client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Position {
    /// The first VIP, which has the first rule.
    First,
    /// The last VIP.
    Last,
    /// Any of all VIPs.
    Random,
    /// Any of ten VIPs, so that their data is in the caches.
    Hot,
    /// Any of all VIPs, with nothing in the caches.
    Cold,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Random => "random",
            Self::Hot => "hot",
            Self::Cold => "cold",
        })
    }
}

/// The destination of connects.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Destination {
    /// The backend itself.
    Address(Ipv4Addr),
    /// Any of the first `count` VIPs.
    Vips { count: u32 },
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) operation: Operation,
    pub(crate) destination: Destination,
    pub(crate) position: Position,
    /// The approximate duration.
    pub(crate) milliseconds: u64,
}

/// A command to the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Go to a network namespace and a cgroup.
    Move { netns: PathBuf, cgroup: PathBuf },
    /// Check that the destination answers, and that the answer comes from that address.
    Verify(Destination),
    /// Measure one cell.
    Measure(Cell),
    /// Reconnect UDP sockets on the first `count` CPUs.
    Threads { count: usize, destination: Destination, milliseconds: u64 },
    /// Hold `count` connected UDP sockets, in place of those held before.
    Hold { count: usize, destination: Destination },
    /// Rename a file, and connect until the VIP answers (or refuses).
    Rename { from: PathBuf, to: PathBuf, vip: Ipv4Addr, answered: bool },
}

/// The client's answer to a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    Sample(Sample),
    Failed(String),
}

/// Times of one operation in a cell, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) mean: f64,
}
