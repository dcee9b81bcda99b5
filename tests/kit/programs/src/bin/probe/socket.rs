//! The system calls of a client. Each function makes one call, retries nothing and hides no error.

use std::{
    mem,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use vipnat_testkit::{Report, patient};

/// Time limit of a connect. It is longer than the kernel's search for a neighbour.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit of an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A system call that failed.
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// For `map_err`: names the call that failed.
fn of(call: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { call, errno }
}

/// Runs calls until one fails, and reports on them.
pub(crate) fn report(calls: impl FnOnce(&mut Report) -> Result<()>) -> Report {
    let mut report = Report::default();
    match calls(&mut report) {
        Ok(()) => report.ok = true,
        Err(Failure { call, errno }) => {
            report.call = Some(call.to_owned());
            report.errno = Some(errno as i32);
            report.error_name = Some(name(errno));
        }
    }
    report
}

/// The name of an error, such as `ECONNREFUSED`.
pub(crate) fn name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// A client's socket.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A socket of the family of `to`, with timeouts.
    pub(crate) fn new(kind: SockType, to: SocketAddr) -> Self {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        let time = |limit| TimeVal::seconds(patient(limit).as_secs() as i64);
        setsockopt(&socket, sockopt::SendTimeout, &time(CONNECT)).expect("SO_SNDTIMEO");
        setsockopt(&socket, sockopt::ReceiveTimeout, &time(ANSWER)).expect("SO_RCVTIMEO");
        Self(socket)
    }

    /// connect(2)
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<()> {
        socket::connect(self.0.as_raw_fd(), &SockaddrStorage::from(to)).map_err(of("connect"))
    }

    /// connect(2) to AF_UNSPEC: dissolves the association of a UDP socket, and resets a TCP connection.
    pub(crate) fn dissolve(&self) -> Result<()> {
        // SAFETY: all zeroes is a valid sockaddr. Its family is AF_UNSPEC, which is 0.
        let unspecified: libc::sockaddr = unsafe { mem::zeroed() };
        let size = size_of_val(&unspecified) as libc::socklen_t;
        // SAFETY: the pointer and the size are those of `unspecified`.
        let result = unsafe { libc::connect(self.0.as_raw_fd(), &raw const unspecified, size) };
        Errno::result(result).map(drop).map_err(of("connect"))
    }

    /// sendto(2) with MSG_FASTOPEN
    pub(crate) fn fastopen(&self, to: SocketAddr, data: &[u8]) -> Result<()> {
        let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
        socket::sendto(self.0.as_raw_fd(), data, &SockaddrStorage::from(to), flags)
            .map(drop)
            .map_err(of("sendto"))
    }

    /// fcntl(2): sets or clears O_NONBLOCK.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        let flags = if nonblocking { OFlag::O_NONBLOCK } else { OFlag::empty() };
        fcntl(&self.0, FcntlArg::F_SETFL(flags)).expect("fcntl");
    }

    /// poll(2) until a nonblocking connect is done, then SO_ERROR.
    pub(crate) fn connected(&self) -> Result<()> {
        let timeout = PollTimeout::try_from(patient(CONNECT)).expect("a timeout");
        let mut socket = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut socket, timeout) {
            Ok(0) => return Err(Failure { call: "poll", errno: Errno::ETIMEDOUT }),
            Ok(_) => {}
            Err(errno) => return Err(Failure { call: "poll", errno }),
        }
        match socket::getsockopt(&self.0, sockopt::SocketError).map_err(of("getsockopt"))? {
            0 => Ok(()),
            error => Err(Failure { call: "SO_ERROR", errno: Errno::from_raw(error) }),
        }
    }

    /// getpeername(2) and getsockname(2), written into the report.
    pub(crate) fn names(&self, report: &mut Report) -> Result<()> {
        let fd = self.0.as_raw_fd();
        let peer = socket::getpeername(fd).map_err(of("getpeername"))?;
        report.peer = Some(text(&peer));
        let local = socket::getsockname(fd).map_err(of("getsockname"))?;
        report.local = Some(text(&local));
        Ok(())
    }

    /// send(2)
    pub(crate) fn send(&self, data: &[u8]) -> Result<()> {
        socket::send(self.0.as_raw_fd(), data, MsgFlags::MSG_NOSIGNAL).map(drop).map_err(of("send"))
    }

    /// recv(2) until a line, a datagram without a line, or the end.
    pub(crate) fn line(&self, kind: SockType) -> Result<String> {
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 512];
            let size = socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())
                .map_err(of("recv"))?;
            received.extend_from_slice(&buffer[..size]);
            if size == 0 || kind == SockType::Datagram || received.contains(&b'\n') {
                let line = received.split(|&byte| byte == b'\n').next().unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
        }
    }
}

/// Formats an address: `1.2.3.4:5` or `[::ffff:1.2.3.4]:5`.
fn text(address: &SockaddrStorage) -> String {
    if let Some(v4) = address.as_sockaddr_in() {
        SocketAddrV4::from(*v4).to_string()
    } else if let Some(v6) = address.as_sockaddr_in6() {
        SocketAddrV6::from(*v6).to_string()
    } else {
        address.to_string()
    }
}
