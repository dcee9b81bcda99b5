//! A client inside an app. It keeps its sockets, and makes the calls that the test asks for.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use vipnat_testkit::{App, program};

use crate::scene::DB;

/// A running `sockets`, which makes one call after the other. `Drop` ends it.
pub(crate) struct Sockets {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Sockets {
    /// Starts a client as an app.
    pub(crate) fn of(app: &App) -> Self {
        Self::start(app.command(program("sockets")))
    }

    /// Starts a command, which must run the program `sockets`.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start sockets");
        let stdin = process.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { process, stdin, stdout }
    }

    /// The result of an operation.
    pub(crate) fn call(&mut self, operation: &str) -> String {
        writeln!(self.stdin, "{operation}").expect("write to sockets");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read from sockets");
        let result = line.trim_end().strip_prefix(operation).and_then(|r| r.strip_prefix(" = "));
        result.unwrap_or_else(|| panic!("{operation}: {line:?}")).to_owned()
    }

    /// Sends a datagram to this port of `db`. Returns the answer and the source that it shows.
    pub(crate) fn ask(&mut self, socket: &str, port: u16) -> String {
        assert_eq!(self.call(&format!("sendto {socket} ? {DB}:{port}")), "1");
        self.call(&format!("recvfrom {socket}"))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
