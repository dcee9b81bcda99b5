//! A server inside an app. The kernel runs the getpeername hooks inside accept(2) too.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
};

use nix::errno::Errno;
use vipnat_testkit::probe::Listening;

use crate::{
    print,
    socket::{Failure, Result, report},
};

pub(crate) fn accept(address: SocketAddr) {
    let listener = TcpListener::bind(address)
        .unwrap_or_else(|error| panic!("probe accept: bind {address}: {error}"));
    let listening = listener.local_addr().expect("getsockname").to_string();
    print(&Listening { listening });

    print(&report(|report| {
        let (mut stream, accepted) = of("accept", listener.accept())?;
        report.accepted = Some(accepted.to_string());
        report.peer = Some(of("getpeername", stream.peer_addr())?.to_string());
        report.local = Some(of("getsockname", stream.local_addr())?.to_string());
        of("write", stream.write_all(b"accepted\n"))?;
        // Waits until the client closes.
        of("read", stream.read(&mut [0]))?;
        Ok(())
    }));
}

fn of<T>(call: &'static str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        Failure { call, errno }
    })
}
