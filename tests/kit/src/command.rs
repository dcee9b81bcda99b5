//! Runs commands in a cgroup or network namespace, with a time limit, and gives their outcome.

use std::{
    fmt, io,
    os::{fd::AsRawFd, unix::process::CommandExt as _},
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use crate::{cgroup::Cgroup, netns::NetNs, this_machine::patient};

/// Time limit of a program, far longer than any needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Places in which a command can run.
///
/// A socket belongs to the cgroup in which it is made. So the process moves before it starts the program.
pub trait CommandExt {
    /// Runs it inside a cgroup.
    fn in_cgroup(&mut self, cgroup: &Cgroup) -> &mut Self;
    /// Runs it inside a network namespace.
    fn in_netns(&mut self, host: &NetNs) -> &mut Self;
    /// Has SIGALRM kill it after `limit`, in whole seconds.
    fn limited_to(&mut self, limit: Duration) -> &mut Self;
}

impl CommandExt for Command {
    fn in_cgroup(&mut self, cgroup: &Cgroup) -> &mut Self {
        let procs = cgroup.procs();
        // SAFETY: write(2) is async-signal-safe, and nothing here allocates.
        unsafe {
            self.pre_exec(move || match libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                1 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            })
        }
    }

    fn in_netns(&mut self, host: &NetNs) -> &mut Self {
        host.receive(self);
        self
    }

    fn limited_to(&mut self, limit: Duration) -> &mut Self {
        let seconds = u32::try_from(limit.as_secs()).expect("a limit in seconds");
        // SAFETY: alarm(2) is async-signal-safe. The timer survives exec.
        unsafe {
            self.pre_exec(move || {
                libc::alarm(seconds);
                Ok(())
            })
        }
    }
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status or the signal.
    pub status: ExitStatus,
    /// The text it wrote to standard output.
    pub stdout: String,
    /// The text it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit status. `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, stderr } = self;
        write!(f, "{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs a command to its end, for at most a minute.
pub fn outcome(command: &mut Command) -> Outcome {
    command
        .limited_to(patient(LIMIT))
        .output()
        .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()))
        .into()
}
