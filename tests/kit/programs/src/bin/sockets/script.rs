//! The lines of a script. Each line is one call, and has one result.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    process, thread,
    time::{Duration, Instant},
};

use io_uring::IoUring;
use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use socket2::Socket;
use vipnat_testkit::patient;

use crate::{
    address::{parse, show},
    calls::{self, Kind, done},
    message, uring,
};

/// The sockets of a script, by name.
#[derive(Default)]
pub(crate) struct Script {
    sockets: HashMap<String, Socket>,
    /// Kept between calls, because the end of a ring interrupts later calls.
    ring: Option<IoUring>,
}

impl Script {
    /// Runs one line. Gives its result, or the name of the error.
    pub(crate) fn play(&mut self, line: &str) -> String {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.call(&words).unwrap_or_else(|error| calls::name(&error))
    }

    fn call(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["socket", name, kind] => {
                let socket = calls::socket(&Kind::parse(kind))?;
                self.sockets.insert(name.to_owned(), socket);
                done()
            }
            ["close", name] => {
                self.sockets.remove(name).unwrap_or_else(|| panic!("no socket {name}"));
                done()
            }
            ["accept", name, new] => {
                let (socket, peer) = self.socket(name).accept()?;
                self.sockets.insert(new.to_owned(), socket);
                Ok(show(&peer))
            }
            ["sleep", milliseconds] => {
                thread::sleep(Duration::from_millis(milliseconds.parse().expect("a number")));
                done()
            }
            ["timed", ref rest @ ..] => {
                let start = Instant::now();
                let result = self.call(rest).unwrap_or_else(|error| calls::name(&error));
                // The kernel retransmits a packet after a second, so a result before that came at once.
                let limit = patient(Duration::from_millis(400)).min(Duration::from_millis(900));
                let at_once = start.elapsed() < limit;
                Ok(format!("{result}, {}", if at_once { "at once" } else { "not at once" }))
            }
            ["child", ref rest @ ..] => self.in_child(rest),
            ["who", kind, address] => calls::who(&Kind::parse(kind), &parse(address)),
            ["reach", kind, address] => calls::reach(&Kind::parse(kind), &parse(address)),
            ["many", kind, address, threads, each] => {
                let number = |text: &str| text.parse().expect("a number");
                let (kind, address) = (Kind::parse(kind), parse(address));
                Ok(calls::many(&kind, &address, number(threads), number(each)))
            }
            ["uring", call, name, ref rest @ ..] => {
                let mut ring = self.ring.take().map_or_else(|| IoUring::new(1), Ok)?;
                let result = uring::call(&mut ring, self.socket(name), call, rest);
                self.ring = Some(ring);
                result
            }
            [call, name, ref rest @ ..] => Self::of_socket(self.socket(name), call, rest),
            _ => panic!("no operation: {words:?}"),
        }
    }

    fn of_socket(socket: &Socket, call: &str, rest: &[&str]) -> io::Result<String> {
        match (call, rest) {
            ("connect", [to]) => socket.connect(&parse(to)).and_then(|()| done()),
            ("bind", [to]) => socket.bind(&parse(to)).and_then(|()| done()),
            ("listen", []) => socket.listen(16).and_then(|()| done()),
            ("getpeername", []) => socket.peer_addr().map(|address| show(&address)),
            ("getsockname", []) => socket.local_addr().map(|address| show(&address)),
            ("nonblocking", []) => socket.set_nonblocking(true).and_then(|()| done()),
            ("blocking", []) => socket.set_nonblocking(false).and_then(|()| done()),
            ("poll", [events]) => calls::poll(socket, events),
            ("SO_ERROR", []) => {
                Ok(socket.take_error()?.map_or("0".to_owned(), |error| calls::name(&error)))
            }
            ("setsockopt", [option, value]) => calls::set(socket, option, value),
            ("shutdown", []) => socket.shutdown(std::net::Shutdown::Write).and_then(|()| done()),
            ("SYN_DATA", []) => calls::syn_data(socket),
            ("SO_ORIGINAL_DST", []) => calls::original_destination(socket),
            ("IP_MTU", []) => calls::mtu(socket),
            ("fill", []) => calls::fill(socket),
            ("ask", []) => calls::ask(socket),
            ("send", [data, flags @ ..]) => message::send(socket, data, flags),
            ("sendto", [data, to, flags @ ..]) => message::sendto(socket, data, &parse(to), flags),
            ("sendmsg", [data, to, control @ ..]) => message::sendmsg(socket, data, to, control),
            ("sendmmsg", pairs) => message::sendmmsg(socket, pairs),
            ("recv", flags) => message::recv(socket, flags),
            ("recvfrom", flags) => message::recvfrom(socket, flags),
            ("recvmsg", flags) => message::recvmsg(socket, flags),
            ("recvmmsg", [count]) => message::recvmmsg(socket, count.parse().expect("a number")),
            _ => panic!("no operation {call} with {rest:?}"),
        }
    }

    fn socket(&self, name: &str) -> &Socket {
        self.sockets.get(name).unwrap_or_else(|| panic!("no socket {name}"))
    }

    /// Makes a call in a forked process, which inherits all sockets.
    fn in_child(&mut self, words: &[&str]) -> io::Result<String> {
        let (mut reader, mut writer) = io::pipe()?;
        // SAFETY: this program has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let result = self.call(words).unwrap_or_else(|error| calls::name(&error));
                writer.write_all(result.as_bytes()).expect("write to a pipe");
                process::exit(0);
            }
            ForkResult::Parent { child } => {
                drop(writer);
                let mut result = String::new();
                reader.read_to_string(&mut result)?;
                waitpid(child, None)?;
                Ok(result)
            }
        }
    }
}

/// Splits a line into words at spaces. Text in double quotes is one word, and `x*1400` stands for 1400 times
/// `x`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        words.extend(part.split_ascii_whitespace().map(|word| match word.strip_prefix("x*") {
            Some(count) => "x".repeat(count.parse().expect("a number")),
            None => word.to_owned(),
        }));
    }
    words
}
