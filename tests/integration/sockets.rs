//! A client inside an app that keeps its sockets and obeys the test.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use vipnat_testkit::{App, program};

use crate::scene::DB;

/// A running `sockets`, a client told one operation after the other. `Drop` ends it.
pub(crate) struct Sockets {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Sockets {
    /// Starts one as an app.
    pub(crate) fn of(app: &App) -> Self {
        Self::start(app.command(program("sockets")))
    }

    /// Starts a command that is the program in some place.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start sockets");
        let stdin = process.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { process, stdin, stdout }
    }

    /// What an operation gave.
    pub(crate) fn call(&mut self, operation: &str) -> String {
        writeln!(self.stdin, "{operation}").expect("write to sockets");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read from sockets");
        let result = line.trim_end().strip_prefix(operation).and_then(|r| r.strip_prefix(" = "));
        result.unwrap_or_else(|| panic!("{operation}: {line:?}")).to_owned()
    }

    /// Who answers a datagram to this port of `db`, as whom.
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
