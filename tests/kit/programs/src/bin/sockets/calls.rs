//! Calls that make, connect and inspect a socket.

use std::{
    collections::BTreeMap,
    io, iter, mem,
    os::fd::AsRawFd as _,
    sync::{Barrier, Mutex},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use vipnat_testkit::patient;

use crate::{
    address::{filled, show},
    message,
};

/// Time limit of a blocking connect or send. It is longer than the kernel's search for a neighbour.
const CONNECT: Duration = Duration::from_secs(6);
/// Time limit of an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The arguments of socket(2).
pub(crate) struct Kind {
    domain: Domain,
    kind: Type,
    protocol: Option<Protocol>,
}

impl Kind {
    /// Parses `tcp4`, `tcp6`, `udp4`, `udp6`, `mptcp4` or `mptcp6`.
    pub(crate) fn parse(text: &str) -> Self {
        let (protocol, version) = text.split_at(text.len() - 1);
        let domain = if version == "6" { Domain::IPV6 } else { Domain::IPV4 };
        let (kind, protocol) = match protocol {
            "tcp" => (Type::STREAM, None),
            "udp" => (Type::DGRAM, None),
            "mptcp" => (Type::STREAM, Some(Protocol::MPTCP)),
            _ => panic!("no kind of socket: {text}"),
        };
        Self { domain, kind, protocol }
    }
}

pub(crate) fn socket(kind: &Kind) -> io::Result<Socket> {
    let socket = Socket::new(kind.domain, kind.kind, kind.protocol)?;
    socket.set_read_timeout(Some(patient(ANSWER)))?;
    socket.set_write_timeout(Some(CONNECT))?;
    Ok(socket)
}

/// Connects a new socket, and asks the server for its name.
pub(crate) fn who(kind: &Kind, to: &SockAddr) -> io::Result<String> {
    connected(kind, to).map(|(_socket, answer)| answer)
}

/// Sends a question mark from a new socket without connecting, and receives the answer of any server.
pub(crate) fn reach(kind: &Kind, to: &SockAddr) -> io::Result<String> {
    let socket = socket(kind)?;
    socket.send_to(b"?", to)?;
    message::recv(&socket, &[])
}

fn connected(kind: &Kind, to: &SockAddr) -> io::Result<(Socket, String)> {
    let socket = socket(kind)?;
    socket.connect(to)?;
    let answer = ask(&socket)?;
    Ok((socket, answer))
}

/// Connects and asks many times, from several threads at once, and counts each answer.
///
/// The sockets stay open to the end: iptables takes a reused UDP port for the flow that had it before.
pub(crate) fn many(kind: &Kind, to: &SockAddr, threads: usize, each: usize) -> String {
    let start = Barrier::new(threads);
    let answers = Mutex::new(BTreeMap::<String, usize>::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                let mut sockets = Vec::new();
                for _ in 0..each {
                    let answer = match connected(kind, to) {
                        Ok((socket, answer)) => {
                            sockets.push(socket);
                            answer
                        }
                        Err(error) => name(&error),
                    };
                    *answers.lock().expect("no thread panics").entry(answer).or_default() += 1;
                }
                start.wait();
            });
        }
    });
    let answers = answers.into_inner().expect("no thread panics");
    let texts: Vec<_> = answers.iter().map(|(who, count)| format!("{who} {count}")).collect();
    texts.join(", ")
}

/// Sends a question mark, and receives.
pub(crate) fn ask(socket: &Socket) -> io::Result<String> {
    message::send(socket, "?", &[])?;
    message::recv(socket, &[])
}

/// poll(2) for `in` or `out`, for at most the time of a connect. Gives the events that occurred.
pub(crate) fn poll(socket: &Socket, events: &str) -> io::Result<String> {
    let wanted = match events {
        "in" => libc::POLLIN,
        "out" => libc::POLLOUT,
        _ => panic!("no events: {events}"),
    };
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: wanted, revents: 0 };
    // SAFETY: the pointer is to one pollfd, as the count says.
    let ready = unsafe { libc::poll(&raw mut poll, 1, CONNECT.as_millis() as libc::c_int) };
    if Errno::result(ready)? == 0 {
        return Ok("timeout".to_owned());
    }
    let names = [
        (libc::POLLIN, "in"),
        (libc::POLLOUT, "out"),
        (libc::POLLERR, "err"),
        (libc::POLLHUP, "hup"),
    ];
    let there: Vec<_> =
        names.iter().filter(|(bit, _)| poll.revents & bit != 0).map(|(_, name)| *name).collect();
    Ok(there.join(" "))
}

/// Fills the memory that `net.core.optmem_max` grants the socket beside its data, except for less than 100
/// bytes.
///
/// It attaches the longest filter that fits. The filter lets everything through.
pub(crate) fn fill(socket: &Socket) -> io::Result<String> {
    /// `BPF_MAXINSNS`, the most instructions of a filter.
    const LONGEST: usize = 4096;
    let nothing = || SockFilter::new(0, 0, 0, 0);
    let pass = SockFilter::new(0x06, 0, 0, u32::MAX);
    let filter: Vec<_> = iter::repeat_with(nothing).take(LONGEST - 1).chain([pass]).collect();
    for start in (0..LONGEST).step_by(8) {
        match socket.attach_filter(&filter[start..]) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            Err(error) => return Err(error),
            Ok(()) if start > 0 => return done(),
            Ok(()) => panic!("the longest filter does not fill it"),
        }
    }
    Err(io::ErrorKind::OutOfMemory.into())
}

/// setsockopt(2) of an option whose value is an int.
pub(crate) fn set(socket: &Socket, option: &str, value: &str) -> io::Result<String> {
    let (level, number) = match option {
        "SO_REUSEADDR" => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        "SO_REUSEPORT" => (libc::SOL_SOCKET, libc::SO_REUSEPORT),
        "SO_BROADCAST" => (libc::SOL_SOCKET, libc::SO_BROADCAST),
        "IP_RECVERR" => (libc::IPPROTO_IP, libc::IP_RECVERR),
        "IP_PKTINFO" => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        "IP_RECVORIGDSTADDR" => (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
        "IP_MTU_DISCOVER" => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        "IPV6_V6ONLY" => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        "TCP_FASTOPEN_CONNECT" => (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
        "UDP_CORK" => (libc::IPPROTO_UDP, libc::UDP_CORK),
        "UDP_SEGMENT" => (libc::IPPROTO_UDP, libc::UDP_SEGMENT),
        _ => panic!("no option {option}"),
    };
    let value: libc::c_int = value.parse().expect("a number");
    // SAFETY: the pointer and the size are those of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            number,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    done()
}

/// The original destination of a socket's connection, as connection tracking recorded it.
pub(crate) fn original_destination(socket: &Socket) -> io::Result<String> {
    /// From include/uapi/linux/netfilter_ipv4.h.
    const SO_ORIGINAL_DST: libc::c_int = 80;
    let ((), address) = filled(|name, length| {
        // SAFETY: `filled` gives room for any address, and the size of the room.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                SO_ORIGINAL_DST,
                name.cast(),
                length,
            )
        };
        Errno::result(result)?;
        Ok(())
    })?;
    Ok(show(&address))
}

/// The kernel's path MTU to the peer.
pub(crate) fn mtu(socket: &Socket) -> io::Result<String> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and the size are those of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    Errno::result(result)?;
    Ok(value.to_string())
}

/// Whether the server accepted the data that came with the SYN.
pub(crate) fn syn_data(socket: &Socket) -> io::Result<String> {
    /// From include/uapi/linux/tcp.h.
    const TCPI_OPT_SYN_DATA: u8 = 32;
    // SAFETY: all zeroes is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the pointer and the size are those of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut size,
        )
    };
    Errno::result(result)?;
    Ok(if info.tcpi_options & TCPI_OPT_SYN_DATA != 0 { "taken" } else { "not taken" }.to_owned())
}

/// The name of an error, such as `ECONNREFUSED`.
pub(crate) fn name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{:?}", Errno::from_raw(errno)),
        None => error.to_string(),
    }
}

/// The result of a call that returns nothing else.
pub(crate) fn done() -> io::Result<String> {
    Ok("0".to_owned())
}
