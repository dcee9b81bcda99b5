//! A server that answers with its name.

use std::{
    fs,
    io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write},
    net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::netns::NetNs;

/// A TCP and UDP server on one address and port of a host.
///
/// It sends its name on accept, again for any data on a connection (one line each), and for each datagram.
/// The client closes first. `Drop` ends it with all its connections.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddrV4,
    name: String,
    seen: Arc<Mutex<Seen>>,
    /// The thread ends when this is closed. `Some` until dropped.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    clients: Vec<SocketAddr>,
    datagrams: u64,
}

impl Backend {
    /// Starts a server. Clients can connect once this returns.
    pub fn start(host: &NetNs, address: SocketAddrV4, name: &str) -> Self {
        let (tcp, udp) = host.run(|| {
            let tcp = TcpListener::bind(address)
                .unwrap_or_else(|error| panic!("backend {name}: bind {address}/tcp: {error}"));
            accept_fastopen(&tcp);
            let udp = UdpSocket::bind(address)
                .unwrap_or_else(|error| panic!("backend {name}: bind {address}/udp: {error}"));
            (tcp, udp)
        });
        for nonblocking in [tcp.set_nonblocking(true), udp.set_nonblocking(true)] {
            nonblocking.expect("set O_NONBLOCK");
        }
        let (stopped, stop) = io::pipe().expect("make a pipe");
        let seen = Arc::default();
        let server = Server {
            tcp,
            udp,
            stopped,
            connections: Vec::new(),
            banner: format!("{name}\n"),
            seen: Arc::clone(&seen),
        };
        let thread = thread::Builder::new()
            .name(format!("backend {name}"))
            .spawn(move || server.serve())
            .expect("start a thread");
        Self { address, name: name.to_owned(), seen, stop: Some(stop), thread: Some(thread) }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The name with which it answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of accepted TCP connections. The server counts a connection before it sends the banner.
    pub fn connections(&self) -> usize {
        self.seen().clients.len()
    }

    /// The client addresses of the TCP connections, as the server sees them, oldest first.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.seen().clients.clone()
    }

    /// The number of received datagrams. The server counts a datagram before it answers.
    pub fn datagrams(&self) -> u64 {
        self.seen().datagrams
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets clients of the calling thread's host send data with the SYN (server side of RFC 7413).
fn accept_fastopen(listener: &TcpListener) {
    // Bit 0 is for the client, which is the default, and bit 1 for the server.
    fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").expect("write net.ipv4.tcp_fastopen");
    let queue: libc::c_int = 64;
    // SAFETY: the pointer and the size are those of `queue`.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const queue).cast(),
            size_of_val(&queue) as libc::socklen_t,
        )
    };
    Errno::result(result).expect("set TCP_FASTOPEN");
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        assert!(ended.is_ok() || thread::panicking(), "backend {} panicked", self.name);
    }
}

/// The sockets and data of the thread of a [`Backend`].
struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
    stopped: PipeReader,
    connections: Vec<TcpStream>,
    /// The name and a newline.
    banner: String,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn serve(mut self) {
        loop {
            let [stopped, udp, tcp, connections @ ..] = &self.wait()[..] else { unreachable!() };
            if *stopped {
                return;
            }
            if *udp {
                self.answer_datagrams();
            }
            // This comes before the new connections are added.
            self.answer_connections(connections);
            if *tcp {
                self.accept();
            }
        }
    }

    /// Waits for an event. Gives whether there was one: for stop, UDP, TCP, and each connection.
    fn wait(&self) -> Vec<bool> {
        let mut all: Vec<_> = [self.stopped.as_fd(), self.udp.as_fd(), self.tcp.as_fd()]
            .into_iter()
            .chain(self.connections.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut all, PollTimeout::NONE) {
            Ok(_) => all.iter().map(|fd| fd.any() != Some(false)).collect(),
            Err(Errno::EINTR) => vec![false; all.len()],
            Err(error) => panic!("poll: {error}"),
        }
    }

    fn accept(&mut self) {
        loop {
            match self.tcp.accept() {
                Ok((mut stream, client)) => {
                    self.seen(|seen| seen.clients.push(client));
                    stream.set_nonblocking(true).expect("set O_NONBLOCK");
                    // The write fails if the client is gone already.
                    if stream.write_all(self.banner.as_bytes()).is_ok() {
                        self.connections.push(stream);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => panic!("accept: {error}"),
                },
            }
        }
    }

    fn answer_connections(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        self.connections.retain_mut(|stream| {
            if ready.next() != Some(&true) {
                return true;
            }
            match stream.read(&mut [0; 4096]) {
                Ok(0) => false,
                Ok(_) => stream.write_all(self.banner.as_bytes()).is_ok(),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
    }

    fn answer_datagrams(&self) {
        // An error is an ICMP message about an earlier answer, or the end of the queue.
        while let Ok((_, client)) = self.udp.recv_from(&mut [0; 4096]) {
            self.seen(|seen| seen.datagrams += 1);
            let _ = self.udp.send_to(self.banner.trim_end().as_bytes(), client);
        }
    }

    fn seen(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
