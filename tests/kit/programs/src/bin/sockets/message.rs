//! Calls that send and receive.

use std::{io, iter, mem, net::Ipv4Addr, os::fd::AsRawFd as _, ptr};

use nix::errno::Errno;
use socket2::{SockAddr, Socket};

use crate::address::{filled, parse, show};

/// The size of the buffer for the control messages of one call.
const CONTROL: usize = 256;

pub(crate) fn send(socket: &Socket, data: &str, flags: &[&str]) -> io::Result<String> {
    // SAFETY: the pointer and the size are those of `data`.
    let size = unsafe {
        libc::send(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            bits(flags) | libc::MSG_NOSIGNAL,
        )
    };
    Ok(Errno::result(size)?.to_string())
}

pub(crate) fn sendto(
    socket: &Socket,
    data: &str,
    to: &SockAddr,
    flags: &[&str],
) -> io::Result<String> {
    // SAFETY: pointers and sizes are those of `data` and `to`.
    let size = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            bits(flags) | libc::MSG_NOSIGNAL,
            to.as_ptr().cast(),
            to.len(),
        )
    };
    Ok(Errno::result(size)?.to_string())
}

/// Sends a message to an address, or to the peer if `to` is `-`.
///
/// The control messages are `pktinfo=ADDRESS`, `ttl=N` and `segment=SIZE`.
pub(crate) fn sendmsg(
    socket: &Socket,
    data: &str,
    to: &str,
    control: &[&str],
) -> io::Result<String> {
    let to = (to != "-").then(|| parse(to));
    let mut iov = iovec(data);
    let mut buffer = Control([0; CONTROL]);
    let mut header = header(&mut iov, to.as_ref());
    for text in control {
        buffer.push(&mut header, text);
    }
    // SAFETY: everything the header points to is alive.
    let size = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    Ok(Errno::result(size)?.to_string())
}

/// Sends messages, given as pairs of data and address. Gives the number that were sent.
pub(crate) fn sendmmsg(socket: &Socket, pairs: &[&str]) -> io::Result<String> {
    let addresses: Vec<_> =
        pairs.iter().skip(1).step_by(2).map(|text| (*text != "-").then(|| parse(text))).collect();
    let mut iovs: Vec<_> = pairs.iter().step_by(2).map(|data| iovec(data)).collect();
    let mut messages: Vec<_> = iter::zip(&mut iovs, &addresses)
        .map(|(iov, to)| libc::mmsghdr { msg_hdr: header(iov, to.as_ref()), msg_len: 0 })
        .collect();
    let count = messages.len() as libc::c_uint;
    // SAFETY: everything the headers point to is alive.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL)
    };
    Ok(Errno::result(sent)?.to_string())
}

pub(crate) fn recv(socket: &Socket, flags: &[&str]) -> io::Result<String> {
    let mut buffer = [0; 65536];
    // SAFETY: the pointer and the size are those of `buffer`.
    let size = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), bits(flags))
    };
    Ok(show_data(&buffer[..Errno::result(size)? as usize]))
}

pub(crate) fn recvfrom(socket: &Socket, flags: &[&str]) -> io::Result<String> {
    let mut buffer = [0; 65536];
    let (size, from) = filled(|name, length| {
        // SAFETY: pointers and sizes are those of the buffers.
        let size = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                bits(flags),
                name,
                length,
            )
        };
        Ok(Errno::result(size)? as usize)
    })?;
    Ok(format!("{} from {}", show_data(&buffer[..size]), show(&from)))
}

/// Receives a message. Also shows its control messages: errors of the error queue, and the address at which
/// the datagram arrived.
pub(crate) fn recvmsg(socket: &Socket, flags: &[&str]) -> io::Result<String> {
    let mut buffer = [0; 65536];
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; CONTROL]);
    let mut seen = String::new();
    let (size, from) = filled(|name, length| {
        let mut header = header(&mut iov, None);
        header.msg_name = name.cast();
        // SAFETY: `filled` gives a length that may be read and written.
        header.msg_namelen = unsafe { *length };
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        // SAFETY: everything the header points to is alive.
        let size = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, bits(flags)) };
        let size = Errno::result(size)? as usize;
        // SAFETY: the kernel filled the header in.
        unsafe { *length = header.msg_namelen };
        seen = show_control(&header);
        Ok(size)
    })?;
    Ok(format!("{} from {}{seen}", show_data(&buffer[..size]), show(&from)))
}

/// Receives until there are `count` messages, or until no more come.
///
/// The result is sorted, because several servers answer in any order.
pub(crate) fn recvmmsg(socket: &Socket, count: usize) -> io::Result<String> {
    let mut buffers = vec![[0; 2048]; count];
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut names: Vec<libc::sockaddr_storage> = vec![unsafe { mem::zeroed() }; count];
    let mut iovs: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    let mut messages: Vec<_> = iter::zip(&mut iovs, &mut names)
        .map(|(iov, name)| {
            let mut header = header(iov, None);
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of_val(name) as libc::socklen_t;
            libc::mmsghdr { msg_hdr: header, msg_len: 0 }
        })
        .collect();
    // SAFETY: everything the headers point to is alive.
    let received = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0, ptr::null_mut())
    };
    let received = Errno::result(received)? as usize;
    let mut shown: Vec<_> = iter::zip(&messages[..received], &buffers)
        .map(|(message, buffer)| {
            let data = &buffer[..message.msg_len as usize];
            format!("{} from {}", show_data(data), show(&name_of(&message.msg_hdr)))
        })
        .collect();
    shown.sort();
    Ok(shown.join(", "))
}

/// Shows short data in quotes, and only the size of long data.
pub(crate) fn show_data(data: &[u8]) -> String {
    match data.len() {
        0..=64 => format!("{:?}", without_ports(&String::from_utf8_lossy(data))),
        size => format!("{size} bytes"),
    }
}

/// Hides a port that the kernel picked, if the answer of a server ends with one.
fn without_ports(text: &str) -> String {
    let port = |(_, port): &(&str, &str)| port.parse::<u16>().is_ok_and(|port| port >= 32768);
    match text.rsplit_once(':').filter(port) {
        Some((before, _)) => format!("{before}:*"),
        None => text.to_owned(),
    }
}

fn bits(flags: &[&str]) -> libc::c_int {
    let bit = |flag: &&str| match *flag {
        "MSG_MORE" => libc::MSG_MORE,
        "MSG_PEEK" => libc::MSG_PEEK,
        "MSG_DONTWAIT" => libc::MSG_DONTWAIT,
        "MSG_ERRQUEUE" => libc::MSG_ERRQUEUE,
        "MSG_FASTOPEN" => libc::MSG_FASTOPEN,
        "MSG_TRUNC" => libc::MSG_TRUNC,
        "MSG_WAITALL" => libc::MSG_WAITALL,
        _ => panic!("no flag {flag}"),
    };
    flags.iter().map(bit).fold(0, |all, bit| all | bit)
}

/// A part of a message, for sending only: the kernel writes nothing through the pointer.
pub(crate) fn iovec(data: &str) -> libc::iovec {
    libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() }
}

/// The header of a message with one part and no control messages.
pub(crate) fn header(iov: &mut libc::iovec, to: Option<&SockAddr>) -> libc::msghdr {
    // SAFETY: all zeroes is a valid, empty msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    if let Some(to) = to {
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
    }
    header
}

fn name_of(header: &libc::msghdr) -> SockAddr {
    filled(|name, length| {
        // SAFETY: the header's name is a sockaddr_storage, as is the storage to fill.
        unsafe {
            ptr::copy_nonoverlapping(
                header.msg_name.cast::<u8>(),
                name.cast(),
                header.msg_namelen as usize,
            );
            *length = header.msg_namelen;
        }
        Ok(())
    })
    .expect("a copy")
    .1
}

/// A buffer of control messages, aligned as the kernel requires.
#[repr(align(8))]
struct Control([u8; CONTROL]);

impl Control {
    /// Adds a control message to a message to send.
    fn push(&mut self, header: &mut libc::msghdr, text: &str) {
        let (kind, value) = text.split_once('=').expect("KIND=VALUE");
        let number = || value.parse::<i32>().expect("a number").to_ne_bytes().to_vec();
        let (level, kind, data) = match kind {
            "pktinfo" => {
                // Interface 0 means any. The source follows, then a destination that the kernel ignores.
                let source: Ipv4Addr = value.parse().expect("an address");
                let data = [[0; 4], source.octets(), [0; 4]].concat();
                (libc::IPPROTO_IP, libc::IP_PKTINFO, data)
            }
            "ttl" => (libc::IPPROTO_IP, libc::IP_TTL, number()),
            "segment" => {
                let size: u16 = value.parse().expect("a number");
                (libc::IPPROTO_UDP, libc::UDP_SEGMENT, size.to_ne_bytes().to_vec())
            }
            _ => panic!("no control message {text}"),
        };
        let start = header.msg_controllen;
        let size = data.len() as u32;
        // SAFETY: these functions only compute sizes.
        let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size)) };
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = start + space as usize;
        assert!(header.msg_controllen <= CONTROL, "too many control messages");
        let cmsg = libc::cmsghdr { cmsg_len: length as usize, cmsg_level: level, cmsg_type: kind };
        // SAFETY: there is room for the control message behind the earlier ones, and the place is aligned.
        unsafe {
            let place = self.0.as_mut_ptr().add(start).cast::<libc::cmsghdr>();
            place.write(cmsg);
            ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(place), data.len());
        }
    }
}

fn show_control(header: &libc::msghdr) -> String {
    let mut text = String::new();
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        text += ", truncated";
    }
    // SAFETY: the kernel filled the header in. The pointers it gives lie in its control buffer.
    unsafe {
        let mut cmsg = libc::CMSG_FIRSTHDR(header);
        while !cmsg.is_null() {
            let data = libc::CMSG_DATA(cmsg);
            match ((*cmsg).cmsg_level, (*cmsg).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_RECVERR) => {
                    let error: libc::sock_extended_err = ptr::read_unaligned(data.cast());
                    text += &format!(", error {:?}", Errno::from_raw(error.ee_errno as i32));
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    let to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    text += &format!(", sent to {to}");
                }
                (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) => {
                    let to: libc::sockaddr_in = ptr::read_unaligned(data.cast());
                    let to = Ipv4Addr::from(u32::from_be(to.sin_addr.s_addr));
                    text += &format!(", meant for {to}");
                }
                other => text += &format!(", control message {other:?}"),
            }
            cmsg = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    text
}
