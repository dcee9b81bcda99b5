//! Carries out the operations that are measured.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{Shutdown, SockaddrIn, setsockopt, shutdown, sockopt::SndBuf};

use super::{
    sockets::{address, connect, peer, recv, recvfrom, send, sendto, tcp, udp},
    timing::Timer,
};
use crate::{
    protocol::{Cell, Destination, MESSAGE, Operation, Position, Sample, port},
    random::Random,
    vips::{NO_VIP, vip},
};

/// An address that routes to the server, and that no VIP can have.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(247, 9, 9, 9);

/// Duration of a bulk transfer, in milliseconds.
const BULK: u64 = 60;

/// Send buffer of the socket that sends bulk.
const BUFFER: usize = 256 << 10;

/// Number of destinations, to which the client connects in turn.
const DESTINATIONS: usize = 8192;

pub(crate) struct Operations {
    timer: Timer,
}

impl Operations {
    pub(crate) fn new() -> Self {
        Self { timer: Timer::new() }
    }

    pub(crate) fn measure(&mut self, cell: Cell) -> io::Result<Sample> {
        let to = |port| addresses(cell.destination, cell.position, port);
        match cell.operation {
            Operation::UdpReconnect => {
                let socket = udp()?;
                let to = to(port::UDP_SINK);
                connect(&socket, &to[to.len() - 1])?;
                self.times(cell, |turn| timed(|| connect(&socket, &to[turn % to.len()])))
            }
            Operation::UdpFresh => self.udp_fresh(cell, &to(port::UDP_SINK)),
            Operation::UdpFreshElsewhere => {
                self.udp_fresh(cell, &[address(ELSEWHERE, port::UDP_SINK)])
            }
            Operation::UdpFreshNoVip => self.udp_fresh(cell, &[address(NO_VIP, port::UDP_SINK)]),
            Operation::UdpFlow => {
                let to = to(port::UDP_SINK);
                self.times(cell, |turn| timed(|| flow(&to[turn % to.len()])))
            }
            Operation::TcpConnect => {
                let to = to(port::CONNECT);
                self.times(cell, |turn| {
                    let socket = tcp()?;
                    timed(|| connect(&socket, &to[turn % to.len()]))
                })
            }
            Operation::TcpCrr => {
                let to = to(port::CLOSE);
                self.times(cell, |turn| timed(|| crr(&to[turn % to.len()])))
            }
            Operation::TcpRr => {
                let socket = tcp()?;
                connect(&socket, &to(port::ECHO)[0])?;
                self.times(cell, |_| timed(|| exchange(&socket)))
            }
            Operation::TcpBulk => self.bulk(&to(port::SINK)[0]),
            Operation::UdpSend => {
                let socket = udp()?;
                connect(&socket, &to(port::UDP_SINK)[0])?;
                self.times(cell, |_| timed(|| send(&socket, &[0; MESSAGE]).map(drop)))
            }
            Operation::UdpSendto => {
                let socket = udp()?;
                let to = to(port::UDP_SINK)[0];
                self.times(cell, |_| timed(|| sendto(&socket, &[0; MESSAGE], &to).map(drop)))
            }
            Operation::UdpRr => {
                let socket = udp()?;
                connect(&socket, &to(port::UDP_ECHO)[0])?;
                self.times(cell, |_| timed(|| exchange(&socket)))
            }
            Operation::UdpRrUnconnected => {
                let socket = udp()?;
                let to = to(port::UDP_ECHO)[0];
                self.times(cell, |_| {
                    timed(|| {
                        sendto(&socket, &[0; MESSAGE], &to)?;
                        recvfrom(&socket, &mut [0; MESSAGE]).map(drop)
                    })
                })
            }
            Operation::Getpeername => {
                let socket = udp()?;
                connect(&socket, &to(port::UDP_SINK)[0])?;
                self.times(cell, |_| timed(|| peer(&socket).map(drop)))
            }
        }
    }

    fn times(
        &mut self,
        cell: Cell,
        operation: impl FnMut(usize) -> io::Result<Duration>,
    ) -> io::Result<Sample> {
        if cell.position == Position::Cold {
            self.timer.measure_cold(operation)
        } else {
            self.timer.measure(Duration::from_millis(cell.milliseconds), operation)
        }
    }

    fn udp_fresh(&mut self, cell: Cell, to: &[SockaddrIn]) -> io::Result<Sample> {
        self.times(cell, |turn| timed(|| connect(&udp()?, &to[turn % to.len()])))
    }

    /// Measures the time of each of many megabytes.
    ///
    /// Both ends run on one CPU, which has nothing else to do. So the time is the CPU time of both ends and
    /// of the kernel's threads between them.
    fn bulk(&mut self, to: &SockaddrIn) -> io::Result<Sample> {
        let socket = tcp()?;
        // Without a fixed size, the kernel would resize the buffer as it runs.
        setsockopt(&socket, SndBuf, &BUFFER)?;
        connect(&socket, to)?;
        let chunk = [0; 64 << 10];
        let megabyte = |_| {
            timed(|| {
                let mut left = 1 << 20;
                while left > 0 {
                    left -= send(&socket, &chunk[..chunk.len().min(left)])?;
                }
                Ok(())
            })
        };
        // The first two megabytes are not counted: the socket takes them faster than they arrive.
        (0..2).try_for_each(|turn| megabyte(turn).map(drop))?;
        let sample = self.timer.measure(Duration::from_millis(BULK), megabyte)?;
        shutdown(socket.as_raw_fd(), Shutdown::Write)?;
        recv(&socket, &mut [0])?;
        Ok(sample)
    }
}

#[inline]
fn timed(operation: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let begun = Instant::now();
    operation()?;
    Ok(begun.elapsed())
}

fn flow(to: &SockaddrIn) -> io::Result<()> {
    let socket = udp()?;
    connect(&socket, to)?;
    send(&socket, &[0; MESSAGE]).map(drop)
}

fn crr(to: &SockaddrIn) -> io::Result<()> {
    let socket = tcp()?;
    connect(&socket, to)?;
    exchange(&socket)
}

fn exchange(socket: &OwnedFd) -> io::Result<()> {
    send(socket, &[0; MESSAGE])?;
    match recv(socket, &mut [0; MESSAGE])? {
        MESSAGE => Ok(()),
        other => Err(io::Error::other(format!("an answer of {other} bytes"))),
    }
}

/// The addresses to which the client connects in turn.
pub(crate) fn addresses(
    destination: Destination,
    position: Position,
    port: u16,
) -> Vec<SockaddrIn> {
    let count = match destination {
        Destination::Address(ip) => return vec![address(ip, port)],
        Destination::Vips { count } => count,
    };
    let mut random = Random::new(u64::from(count));
    let mut choose = |among: u32, how_many: usize| -> Vec<_> {
        (0..how_many)
            .map(|_| random.below(among) * (count / among))
            .map(|index| address(vip(index), port))
            .collect()
    };
    match position {
        Position::First => vec![address(vip(0), port)],
        Position::Last => vec![address(vip(count - 1), port)],
        Position::Random | Position::Cold => choose(count, DESTINATIONS),
        Position::Hot => choose(count.min(10), 64),
    }
}
