//! A process of an application that plays one socket operation after the other.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _, Seek as _, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use vipnat_testkit::Cgroup;

use crate::record::Record;

/// The names of addresses in scripts and records.
const NAMES: [(&str, &str); 12] = [
    ("db", "169.254.37.209"),
    ("cache", "169.254.206.224"),
    ("search", "169.254.50.144"),
    ("app", "247.221.80.10"),
    ("second", "247.221.80.11"),
    ("outside", "247.221.80.20"),
    ("backend1", "247.221.81.1"),
    ("backend2", "247.221.81.2"),
    ("backend3", "247.221.81.3"),
    ("backend4", "247.221.81.4"),
    ("closed", "247.221.81.8"),
    ("nowhere", "247.221.81.9"),
];

/// A running `sockets`: it keeps its sockets between scripts. `Drop` ends it.
#[derive(Debug)]
pub struct Session {
    process: Child,
    /// `Some` until dropped. The process ends when it closes.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// The messages of the process. They belong to a failing case, not to the output of a passing run.
    stderr: File,
}

impl Session {
    /// Starts the command, which must run the program `sockets`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let stderr = tempfile::tempfile().expect("make a file");
        let written = stderr.try_clone().expect("open a file again");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(written)
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Self { process, stdin, stdout, stderr }
    }

    /// Moves the process to another cgroup. Its sockets still belong to the old one.
    pub fn move_to(&self, cgroup: &Cgroup) {
        let id = self.process.id().to_string();
        cgroup.procs().write_all(id.as_bytes()).expect("move a process to a cgroup");
    }

    /// Plays a script, one operation a line. Notes each operation with its result.
    pub fn play(&mut self, script: &str, record: &mut Record) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let result = self.call(line);
            record.line(format!("{line} = {result}"));
        }
    }

    /// Plays one operation and returns its result, without noting it.
    pub fn call(&mut self, operation: &str) -> String {
        let line = &addresses(operation);
        let stdin = self.stdin.as_mut().expect("until dropped");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("play {line}: {error}"));
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap_or_else(|error| panic!("play {line}: {error}"));
        let result =
            answer.strip_prefix(line).and_then(|rest| rest.strip_prefix(" = ")).unwrap_or_else(
                || panic!("play {line}: the answer is {answer:?}{}", self.complaints()),
            );
        names(result.trim_end())
    }

    /// The messages that the process wrote before it ended.
    fn complaints(&mut self) -> String {
        self.stdin = None;
        let _ = self.process.wait();
        let mut text = String::new();
        let read = self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut text));
        read.map_or_else(
            |error| format!("; what it said: {error}"),
            |_| format!("; {}", text.trim()),
        )
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // The process may hang in a call, if the case panicked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The operation with addresses in place of names.
fn addresses(operation: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric();
    operation
        .split_inclusive(|c| !is_name(c))
        .map(|part| {
            let word = part.trim_end_matches(|c| !is_name(c));
            match NAMES.iter().find(|(name, _)| *name == word) {
                Some((name, address)) => part.replacen(name, address, 1),
                None => part.to_owned(),
            }
        })
        .collect()
}

/// The result with names in place of addresses.
fn names(result: &str) -> String {
    NAMES.iter().fold(result.to_owned(), |text, (name, address)| text.replace(address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_addresses_both_ways() {
        for (named, plain) in [
            ("connect db db:5432", "connect 169.254.37.209 169.254.37.209:5432"),
            ("connect a [::ffff:db]:53", "connect a [::ffff:169.254.37.209]:53"),
            ("sendto a x*9 unspec:backend1:1", "sendto a x*9 unspec:247.221.81.1:1"),
        ] {
            assert_eq!(addresses(named), plain);
            assert_eq!(names(plain), named);
        }
        assert_eq!(addresses("connect dba app"), "connect dba 247.221.80.10");
    }
}
