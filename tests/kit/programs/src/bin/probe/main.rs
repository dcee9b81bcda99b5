//! A client that runs as an app. It connects in the ways of real clients, and prints one [`Report`] a line.
//!
//! A failed connection is a result of the probe, not a failure of it: the exit status is 0.

mod accept;
mod connect;
mod reconnect;
mod socket;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Barrier,
    thread,
};

use clap::{Args, Parser};
use serde::Serialize;
use vipnat_testkit::Report;

#[derive(Parser)]
#[command(about = "Connects, and prints what it saw as JSON, one object a line")]
enum Probe {
    /// Connects, reads a line, closes.
    Tcp {
        #[command(flatten)]
        to: Target,
        #[command(flatten)]
        times: Times,
    },
    /// Connects a UDP socket, sends a datagram, reads the answer.
    Udp {
        #[command(flatten)]
        to: Target,
        #[command(flatten)]
        times: Times,
    },
    /// The same as tcp with O_NONBLOCK. Calls connect again while the first one is in progress.
    Nonblocking {
        #[command(flatten)]
        to: Target,
    },
    /// The same as tcp with sendto(MSG_FASTOPEN) instead of connect.
    Fastopen {
        #[command(flatten)]
        to: Target,
    },
    /// Connects one socket twice, and reports on each connection.
    Reconnect(reconnect::Reconnect),
    /// Connects and stays connected. Prints a report at first, and another one for each line on standard
    /// input.
    Hold {
        #[command(flatten)]
        to: Target,
        /// Use a UDP socket.
        #[arg(long)]
        udp: bool,
    },
    /// Listens, prints the address, and reports on the client that connects.
    Accept {
        /// The address to listen on.
        address: SocketAddr,
    },
}

#[derive(Args)]
struct Target {
    /// The address to connect to.
    address: SocketAddr,
    /// Use an AF_INET6 socket and ::ffff:ADDRESS, as Java does.
    #[arg(long)]
    mapped: bool,
}

impl Target {
    fn address(&self) -> SocketAddr {
        if self.mapped { mapped(self.address) } else { self.address }
    }
}

#[derive(Args)]
struct Times {
    /// How many times to connect, one after the other, each with its own socket.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// How many threads do that at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl Times {
    fn repeat(&self, once: impl Fn() -> Report + Sync) {
        let start = Barrier::new(self.threads);
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..self.count {
                        print(&once());
                    }
                });
            }
        });
    }
}

/// Gives `::ffff:a.b.c.d` for `a.b.c.d`.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

fn print(line: &impl Serialize) {
    println!("{}", serde_json::to_string(line).expect("a report is JSON"));
}

fn main() {
    match Probe::parse() {
        Probe::Tcp { to, times } => times.repeat(|| connect::tcp(to.address())),
        Probe::Udp { to, times } => times.repeat(|| connect::udp(to.address())),
        Probe::Nonblocking { to } => print(&connect::nonblocking(to.address())),
        Probe::Fastopen { to } => print(&connect::fastopen(to.address())),
        Probe::Reconnect(reconnect) => reconnect.run(),
        Probe::Hold { to, udp } => connect::hold(to.address(), udp),
        Probe::Accept { address } => accept::accept(address),
    }
}
