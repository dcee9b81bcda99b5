//! What the driver asks of the client, a JSON line for each, and what it is answered.

use std::{fmt, net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where the server listens, on each address of a backend.
pub(crate) mod port {
    /// Connections wait to be accepted until the driver has the server drain them.
    pub(crate) const CONNECT: u16 = 7000;
    /// A request, a response, the end.
    pub(crate) const CLOSE: u16 = 7001;
    /// Requests and responses.
    pub(crate) const ECHO: u16 = 7002;
    /// Takes everything, and answers its end with a byte.
    pub(crate) const SINK: u16 = 7003;
    /// Answers datagrams.
    pub(crate) const UDP_ECHO: u16 = 7004;
    /// Drops datagrams before they are queued.
    pub(crate) const UDP_SINK: u16 = 7005;
    /// Nobody listens.
    pub(crate) const CLOSED: u16 = 7006;
}

/// The size of requests, responses and datagrams.
pub(crate) const MESSAGE: usize = 64;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// `connect()` again, on a UDP socket that was connected before.
    UdpReconnect,
    /// `socket()`, `connect()` and `close()` of a UDP socket.
    UdpFresh,
    /// The same to an address that no VIP can have.
    UdpFreshElsewhere,
    /// The same to an address that could be a VIP and is none.
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
    /// `sendto()` and `recvfrom()` on one that is not.
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

/// Which of the VIPs are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Position {
    /// The first one, whose rule is the first.
    First,
    /// The last one.
    Last,
    /// Any of all.
    Random,
    /// Any of ten, so that what belongs to them is in the caches.
    Hot,
    /// Any of all, with nothing in the caches.
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

/// Where to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Destination {
    /// The backend itself.
    Address(Ipv4Addr),
    /// VIPs of the first `count`.
    Vips { count: u32 },
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) operation: Operation,
    pub(crate) destination: Destination,
    pub(crate) position: Position,
    /// For how long, about.
    pub(crate) milliseconds: u64,
}

/// What the client is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Go to a network namespace and a cgroup.
    Move { netns: PathBuf, cgroup: PathBuf },
    /// Look whether what is sent there is answered, from where it was sent to.
    Verify(Destination),
    /// Measure.
    Measure(Cell),
    /// Reconnect UDP sockets on as many CPUs.
    Threads { count: usize, destination: Destination, milliseconds: u64 },
    /// Keep connected UDP sockets, in place of those kept before.
    Hold { count: usize, destination: Destination },
    /// Rename a file, and connect until a VIP is answered (or refused).
    Rename { from: PathBuf, to: PathBuf, vip: Ipv4Addr, answered: bool },
}

/// The outcome of the suite.
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
