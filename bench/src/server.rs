//! The server: a pinned thread for each port, which does as little as possible.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    pin_process,
    protocol::{MESSAGE, port},
};

/// The most connections that may wait to be accepted.
const QUEUE: i32 = 65_535;

/// Receive buffer of the socket that takes bulk.
const BUFFER: usize = 256 << 10;

/// Serves on `ip`, in the network namespace in which it was started, until standard input ends.
///
/// A line `drain` accepts and ends the connections that wait on [`port::CONNECT`]. A line `pin CPU` moves the
/// server to that CPU.
pub(crate) fn run(ip: Ipv4Addr) -> Result<()> {
    std::fs::write("/proc/sys/net/core/somaxconn", QUEUE.to_string()).context("somaxconn")?;
    let waiting = listen(ip, port::CONNECT)?;
    waiting.set_nonblocking(true)?;
    let (close, echo, sink) =
        (listen(ip, port::CLOSE)?, listen(ip, port::ECHO)?, listen(ip, port::SINK)?);
    // Accepted connections inherit this size. Without it, the kernel would resize their buffers as they run.
    SockRef::from(&sink).set_recv_buffer_size(BUFFER)?;
    let udp_echo = UdpSocket::bind((ip, port::UDP_ECHO))?;
    let udp_sink = UdpSocket::bind((ip, port::UDP_SINK))?;
    drop_all(&udp_sink)?;
    thread::spawn(move || for_each_connection(&close, answer_once));
    thread::spawn(move || for_each_connection(&echo, answer));
    thread::spawn(move || for_each_connection(&sink, swallow));
    thread::spawn(move || answer_datagrams(&udp_echo));

    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match line?.split_once(' ') {
            None => writeln!(stdout, "{}", drain(&waiting)?)?,
            Some(("pin", cpu)) => {
                pin_process(cpu.parse()?)?;
                writeln!(stdout, "pinned")?;
            }
            Some(other) => bail!("{other:?}?"),
        }
    }
    Ok(())
}

fn listen(ip: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((ip, port)).into())?;
    socket.listen(QUEUE)?;
    Ok(socket.into())
}

/// Attaches a filter that lets nothing pass.
///
/// The kernel then drops every datagram at the same place, whether or not a queue is full.
fn drop_all(socket: &UdpSocket) -> io::Result<()> {
    // ret #0
    let mut filter = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: filter.as_mut_ptr() };
    // SAFETY: the pointer and the size are those of `program`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Serves connections one after the other. If one fails, the client has ended it.
fn for_each_connection(listener: &TcpListener, serve: impl Fn(TcpStream) -> io::Result<()>) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = serve(stream);
    }
}

fn answer_once(mut stream: TcpStream) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    stream.read_exact(&mut message)?;
    stream.write_all(&message)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

fn swallow(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer)? > 0 {}
    stream.write_all(&[1])?;
    stream.shutdown(Shutdown::Both)
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut message = [0; MESSAGE];
    loop {
        // An error belongs to an earlier answer whose client is gone.
        if let Ok((length, from)) = socket.recv_from(&mut message) {
            let _ = socket.send_to(&message[..length], from);
        }
    }
}

/// Ends the connections that wait to be accepted. The result is their number.
fn drain(listener: &TcpListener) -> io::Result<usize> {
    let mut count = 0;
    loop {
        match listener.accept() {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}
