//! Reads commands of the driver from standard input, and carries out one at a time.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::resource::{Resource, getrlimit, setrlimit},
};

use super::{
    operations::Operations,
    several::{self, Held},
    sockets,
};
use crate::{
    pin,
    protocol::{Answer, Command, Destination, MESSAGE, Sample, port},
    vips::vip,
};

/// Time limit for a change of the table to take effect.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves the driver until it closes standard input.
pub(crate) fn run(cpu: usize) -> Result<()> {
    pin(cpu)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut client =
        Client { operations: Operations::new(), cgroup: PathBuf::new(), held: Held::default() };
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let command = serde_json::from_str(&line?)?;
        let answer = client
            .obey(&command)
            .unwrap_or_else(|error| Answer::Failed(format!("{command:?}: {error:#}")));
        writeln!(stdout, "{}", serde_json::to_string(&answer)?)?;
    }
    Ok(())
}

struct Client {
    operations: Operations,
    /// The cgroup of the client.
    cgroup: PathBuf,
    held: Held,
}

impl Client {
    fn obey(&mut self, command: &Command) -> Result<Answer> {
        match command {
            Command::Move { netns, cgroup } => self.go(netns, cgroup)?,
            Command::Verify(destination) => verify(*destination)?,
            Command::Measure(cell) => return Ok(Answer::Sample(self.operations.measure(*cell)?)),
            Command::Threads { count, destination, milliseconds } => {
                let time = Duration::from_millis(*milliseconds);
                return Ok(Answer::Sample(several::threads(*count, *destination, time)?));
            }
            Command::Hold { count, destination } => {
                self.held = Held::default();
                self.held = Held::connect(*count, *destination)?;
            }
            Command::Rename { from, to, vip, answered } => {
                return Ok(Answer::Sample(follow(from, to, *vip, *answered)?));
            }
        }
        Ok(Answer::Done)
    }

    /// Moves the client to a network namespace and a cgroup. A socket belongs to those in which it is made.
    fn go(&mut self, netns: &Path, cgroup: &Path) -> Result<()> {
        let namespace = File::open(netns).context("open a network namespace")?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("enter it")?;
        if self.cgroup != cgroup {
            fs::write(cgroup.join("cgroup.procs"), "0").context("enter a cgroup")?;
            cgroup.clone_into(&mut self.cgroup);
        }
        Ok(())
    }
}

/// Checks that TCP and UDP requests are answered, from the address to which they were sent.
fn verify(destination: Destination) -> Result<()> {
    let addresses = match destination {
        Destination::Address(address) => vec![address],
        Destination::Vips { count } => vec![vip(0), vip(count / 2), vip(count - 1)],
    };
    addresses.into_iter().try_for_each(|address| {
        verify_tcp(address).with_context(|| format!("TCP to {address}"))?;
        verify_udp(address).with_context(|| format!("UDP to {address}"))
    })
}

fn verify_tcp(address: Ipv4Addr) -> Result<()> {
    let target = SocketAddrV4::new(address, port::ECHO);
    let mut stream = TcpStream::connect_timeout(&target.into(), Duration::from_secs(5))?;
    ensure!(stream.peer_addr()? == target.into(), "the peer is {}", stream.peer_addr()?);
    let mut message = [b'?'; MESSAGE];
    stream.write_all(&message)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_exact(&mut message)?;
    Ok(())
}

fn verify_udp(address: Ipv4Addr) -> Result<()> {
    let target = SocketAddrV4::new(address, port::UDP_ECHO);
    for connected in [true, false] {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut message = [b'?'; MESSAGE];
        if connected {
            socket.connect(target)?;
            socket.send(&message)?;
        } else {
            socket.send_to(&message, target)?;
        }
        let (_, from) = socket.recv_from(&mut message)?;
        ensure!(from == SocketAddr::from(target), "the answer is from {from}");
    }
    Ok(())
}

/// Measures the time from the change of a file to the first connect that shows it.
fn follow(from: &Path, to: &Path, vip: Ipv4Addr, answered: bool) -> Result<Sample> {
    let target = sockets::address(vip, port::CONNECT);
    let begun = Instant::now();
    fs::rename(from, to)?;
    loop {
        let socket = sockets::tcp()?;
        let connected = sockets::connect(&socket, &target);
        let took = begun.elapsed();
        if connected.is_ok() == answered {
            let took = took.as_nanos() as f64;
            return Ok(Sample { count: 1, p50: took, p99: took, mean: took });
        }
        ensure!(took < PATIENCE, "the change has not arrived after {took:?}");
    }
}
