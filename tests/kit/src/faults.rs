//! Makes faults at system calls of a command: kills it, fails the call, or stops it there.
//!
//! strace(1) injects the faults. So they are real, and also reach the calls of libraries.

mod attached;
mod log;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use self::log::{CALLS, Log};
pub use self::{
    attached::{Attached, Recorded, Thread},
    log::Operation,
};
use crate::{
    command::{CommandExt as _, LIMIT, Outcome, outcome},
    leftovers,
    this_machine::patient,
};

/// The results of a command under strace.
#[derive(Debug)]
pub struct Traced {
    /// The outcome, as without strace.
    pub outcome: Outcome,
    /// The operations that succeeded, in order.
    pub operations: Vec<Operation>,
    /// The operation that the fault hit.
    ///
    /// It may differ from that of an earlier run: for example, the maps of an object are made in the order of
    /// a hash table.
    pub struck: Option<Operation>,
}

/// Runs a command, and records its changes.
pub fn traced(command: &Command) -> Traced {
    run(command, None)
}

/// Runs a command, and kills it at an operation.
///
/// The operation does not happen: a tracee with a deadly signal skips the call (`ptrace_report_syscall_entry`
/// in include/linux/ptrace.h).
///
/// So kills at all operations of a command leave every state that a kill at any moment can leave. The state
/// before an operation is that after the operation before it. The state after the last one is that of a
/// complete run. Calls that only read change nothing in between.
pub fn killed(command: &Command, at: &Operation) -> Traced {
    run(command, Some(&at.inject("signal=KILL")))
}

/// Runs a command in which an operation fails with this error, and does not happen.
pub fn failed(command: &Command, at: &Operation, error: &str) -> Traced {
    run(command, Some(&at.inject(&format!("error={error}"))))
}

/// The same, but every later call of that name fails too.
pub fn failed_from(command: &Command, at: &Operation, error: &str) -> Traced {
    run(command, Some(&(at.inject(&format!("error={error}")) + "+")))
}

/// A command that is stopped right after an operation. Dropping it ends the command.
#[derive(Debug)]
pub struct Stopped {
    /// `None` once it has ended.
    strace: Option<Child>,
    process: Pid,
    _files: TempDir,
}

impl Stopped {
    /// Runs a command up to an operation. The kernel delivers the stop signal when the call returns.
    pub fn after(command: &Command, operation: &Operation) -> Self {
        let files = leftovers::temporary();
        let log = files.path().join("log");
        let strace = strace(command, &log, Some(&operation.inject("signal=STOP")))
            .limited_to(patient(LIMIT))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start strace");
        // The id of the process is known once strace has written about it.
        let mut stopped = Self { strace: Some(strace), process: Pid::from_raw(0), _files: files };
        let deadline = Instant::now() + patient(LIMIT);
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(process) = text.lines().find_map(stopped_process) {
                stopped.process = process;
                return stopped;
            }
            assert!(!text.contains("+++"), "{operation} did not come:\n{text}");
            assert!(Instant::now() < deadline, "{operation} does not come:\n{text}");
            sleep(Duration::from_millis(2));
        }
    }

    /// The stopped process.
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Lets it run to its end.
    pub fn resume(mut self) -> Outcome {
        kill(self.process, Signal::SIGCONT).expect("continue the stopped process");
        let strace = self.strace.take().expect("it has not ended");
        Outcome::from(strace.wait_with_output().expect("wait for strace"))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(mut strace) = self.strace.take() {
            if self.process.as_raw() > 0 {
                let _ = kill(self.process, Signal::SIGKILL);
            }
            // strace ends with its tracee. If it has none yet, the kill ends it.
            let _ = strace.kill();
            let _ = strace.wait();
        }
    }
}

fn stopped_process(line: &str) -> Option<Pid> {
    let (process, what) = line.split_once(' ')?;
    what.trim_start().starts_with("--- stopped by SIGSTOP").then_some(())?;
    process.parse().ok().map(Pid::from_raw)
}

fn run(command: &Command, injection: Option<&str>) -> Traced {
    let files = leftovers::temporary();
    let log = files.path().join("log");
    let outcome = outcome(&mut strace(command, &log, injection));
    let text = fs::read_to_string(&log).expect("read the log of strace");
    let Log { operations, struck, .. } = Log::of(&text);
    Traced { outcome, operations, struck }
}

fn strace(command: &Command, log: &Path, injection: Option<&str>) -> Command {
    let mut strace = Command::new("strace");
    // Without --seccomp-bpf: with it, strace 6.1 injects nothing.
    strace.arg("-f").arg("-o").arg(log).args(["-e", &format!("trace={CALLS}")]);
    strace.args(injection.into_iter().flat_map(|injection| ["-e", injection]));
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_stops_is_found() {
        assert_eq!(stopped_process("12 --- stopped by SIGSTOP ---"), Some(Pid::from_raw(12)));
        assert_eq!(stopped_process("12 --- SIGSTOP {si_signo=SIGSTOP} ---"), None);
    }
}
