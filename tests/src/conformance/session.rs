//! A process of an application, told one socket operation after the other.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::record::Record;

/// A running `sockets`: it keeps its sockets between scripts. `Drop` ends it.
#[derive(Debug)]
pub struct Session {
    process: Child,
    /// `Some` until dropped: its end ends the process.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Starts the command, which must be the program `sockets` in some place.
    pub(super) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { process, stdin, stdout }
    }

    /// Plays a script, one operation a line, and notes each with its result.
    pub fn play(&mut self, script: &str, record: &mut Record) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let result = self.call(line);
            record.line(format!("{line} = {result}"));
        }
    }

    /// Plays one operation and gives its result, without a note.
    pub fn call(&mut self, line: &str) -> String {
        let stdin = self.stdin.as_mut().expect("until dropped");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("play {line}: {error}"));
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap_or_else(|error| panic!("play {line}: {error}"));
        answer
            .strip_prefix(line)
            .and_then(|rest| rest.strip_prefix(" = "))
            .unwrap_or_else(|| panic!("play {line}: the answer is {answer:?}"))
            .trim_end()
            .to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may hang in a call of a case that panicked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
