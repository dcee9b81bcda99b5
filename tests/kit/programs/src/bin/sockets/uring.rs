//! The same calls through io_uring.

use std::{io, os::fd::AsRawFd as _};

use io_uring::{IoUring, opcode, squeue, types};
use socket2::Socket;

use crate::{
    address::{filled, parse, show},
    message::{header, iovec, show_data},
};

pub(crate) fn call(
    ring: &mut IoUring,
    socket: &Socket,
    call: &str,
    rest: &[&str],
) -> io::Result<String> {
    let fd = types::Fd(socket.as_raw_fd());
    match (call, rest) {
        ("connect", [to]) => {
            let to = parse(to);
            let entry = opcode::Connect::new(fd, to.as_ptr().cast(), to.len()).build();
            submit(ring, &entry).map(|result| result.to_string())
        }
        ("send", [data]) => {
            let entry = opcode::Send::new(fd, data.as_ptr(), data.len() as u32).build();
            submit(ring, &entry).map(|size| size.to_string())
        }
        ("sendmsg", [data, to]) => {
            let (mut iov, to) = (iovec(data), parse(to));
            let header = header(&mut iov, Some(&to));
            let entry = opcode::SendMsg::new(fd, &raw const header).build();
            submit(ring, &entry).map(|size| size.to_string())
        }
        ("recv", []) => {
            let mut buffer = [0; 4096];
            let entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).build();
            submit(ring, &entry).map(|size| show_data(&buffer[..size]))
        }
        ("recvmsg", []) => {
            let mut buffer = [0; 4096];
            let mut iov =
                libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let (size, from) = filled(|name, length| {
                let mut header = header(&mut iov, None);
                header.msg_name = name.cast();
                // SAFETY: `filled` gives a length that may be read and written.
                header.msg_namelen = unsafe { *length };
                let entry = opcode::RecvMsg::new(fd, &raw mut header).build();
                let size = submit(ring, &entry)?;
                // SAFETY: the same pointer. The kernel wrote the header's length.
                unsafe { *length = header.msg_namelen };
                Ok(size)
            })?;
            Ok(format!("{} from {}", show_data(&buffer[..size]), show(&from)))
        }
        _ => panic!("no operation uring {call} with {rest:?}"),
    }
}

/// Submits one entry and waits for its completion.
fn submit(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<usize> {
    // SAFETY: the data of the entry lives until its completion, for which this function waits.
    unsafe { ring.submission().push(entry) }.expect("room for one entry");
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().expect("a completion").result();
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
