//! The same calls through io_uring.

use std::io;

use io_uring::{IoUring, opcode, squeue, types};
use socket2::Socket;

use crate::{address::parse, message::show_data, script::fd};

pub(crate) fn call(socket: &Socket, call: &str, rest: &[&str]) -> io::Result<String> {
    let fd = types::Fd(fd(socket));
    match (call, rest) {
        ("connect", [to]) => {
            let to = parse(to);
            submit(&opcode::Connect::new(fd, to.as_ptr().cast(), to.len()).build())
                .map(|result| result.to_string())
        }
        ("send", [data]) => {
            submit(&opcode::Send::new(fd, data.as_ptr(), data.len() as u32).build())
                .map(|result| result.to_string())
        }
        ("recv", []) => {
            let mut buffer = [0; 4096];
            let entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).build();
            submit(&entry).map(|size| show_data(&buffer[..size]))
        }
        _ => panic!("no operation uring {call} with {rest:?}"),
    }
}

/// Submits one entry and waits for its completion.
fn submit(entry: &squeue::Entry) -> io::Result<usize> {
    let mut ring = IoUring::new(1)?;
    // SAFETY: what the entry points to lives until its completion, which is awaited here.
    unsafe { ring.submission().push(entry) }.expect("room for one entry");
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().expect("a completion").result();
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
