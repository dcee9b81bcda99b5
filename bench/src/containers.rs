//! The processes of a fleet: one in each cgroup, with open connections.
//!
//! vipnat ends connections in the network namespaces of the processes of an app's cgroup. So each cgroup
//! needs a process.
//!
//! The processes need to do nothing else, and thousands must start quickly. So they are forks of this
//! program, which wait for its end.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal},
        socket::{Backlog, listen},
    },
    unistd::{ForkResult, fork},
};

/// The port of all connections.
const PORT: u16 = 7000;

/// The number of containers, and the sockets of each.
#[derive(Args)]
pub(crate) struct Containers {
    /// The directory of the cgroups `a0`, `a1`, …
    cgroups: PathBuf,
    /// The number of cgroups, with one container each.
    count: usize,
    /// The number of connected UDP sockets of all containers together. Each container also has one TCP
    /// connection.
    datagrams: usize,
    /// The address to which containers connect.
    vip: Ipv4Addr,
}

impl Containers {
    /// Starts the containers, prints a line once all are connected, and ends them when standard input ends.
    pub(crate) fn run(&self) -> Result<()> {
        // The backends are addresses of this very host. This process never accepts, so connections stay in
        // the queue.
        let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        listen(&server, Backlog::MAXALLOWABLE).context("listen")?;
        let (mut done, tell) = io::pipe()?;
        for index in 0..self.count {
            // SAFETY: this process has no other thread.
            match unsafe { fork() }.context("start a container")? {
                ForkResult::Parent { .. } => {}
                ForkResult::Child => self.container(index, &tell),
            }
        }
        drop(tell);
        let mut connected = Vec::new();
        // Containers keep their ends of the pipe open, so an early end of file means that they ended.
        let mut some = [0; 4096];
        while connected.len() < self.count {
            let count = done.read(&mut some)?;
            ensure!(count > 0, "containers ended");
            connected.extend_from_slice(&some[..count]);
        }
        if !connected.iter().all(|byte| *byte == b'+') {
            bail!("containers could not connect");
        }
        println!("ready");
        io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Runs one container, and never returns.
    fn container(&self, index: usize, mut tell: &io::PipeWriter) -> ! {
        // The kernel kills the container when its parent dies. If the parent died before this call, the
        // container gets no signal.
        let _ = set_pdeathsig(Signal::SIGKILL);
        let held = self.connect(index);
        if let Err(error) = &held {
            eprintln!("container {index}: {error:#}");
        }
        let _ = tell.write_all(if held.is_ok() { b"+" } else { b"-" });
        let _ = SigSet::empty().suspend();
        std::process::exit(0)
    }

    fn connect(&self, index: usize) -> Result<(TcpStream, Vec<UdpSocket>)> {
        enter(&self.cgroups.join(format!("a{index}")))?;
        let target = SocketAddrV4::new(self.vip, PORT);
        let stream = TcpStream::connect(target).context("connect a TCP socket")?;
        // Spreads the UDP sockets evenly over the containers.
        let before = |index: usize| self.datagrams * index / self.count;
        let datagrams = (before(index)..before(index + 1)).map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(target)?;
            Ok(socket)
        });
        let datagrams = datagrams.collect::<io::Result<_>>().context("connect a UDP socket")?;
        Ok((stream, datagrams))
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("enter {}", cgroup.display()))
}
