//! The messages between `cargo xtask vm` and the first process of its virtual machines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// On the kernel's command line, before the path of the file that has the [`Job`].
pub const JOB: &str = "vipnat.job=";

/// In the environment of tests that run in emulation, which is many times slower than a machine.
pub const EMULATED: &str = "VIPNAT_TESTS_EMULATED";

/// How a test says on its standard error that it is not run: this, its name, a colon, the reason.
pub const NOT_RUN: &str = "NOT RUN: ";

/// The same of a part of a test.
pub const LEFT_OUT: &str = "LEFT OUT: ";

/// What a machine is to do.
#[derive(Debug, Deserialize, Serialize)]
pub struct Job {
    /// One after the other.
    pub steps: Vec<Step>,
    /// Of all of them.
    pub environment: Vec<(String, String)>,
    /// The modules of its kernel, which belong at `/lib/modules/<release>`, if it has any.
    pub modules: Option<PathBuf>,
    /// The command that gets modules, as a shell reads it.
    pub modprobe: String,
}

/// A program that it runs, as root.
#[derive(Debug, Deserialize, Serialize)]
pub struct Step {
    /// What it is called in the [`Event`]s.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// For how long at most.
    pub seconds: u64,
}

/// How often a machine tells that it lives, in seconds.
pub const ALIVE_EVERY: u64 = 5;

/// What a machine tells while it does it, one a line, on a serial line that nothing else writes to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It lives, whatever the step does.
    Alive,
    /// A step of this name starts.
    Begins(String),
    /// It wrote a line to its standard output.
    Output(String),
    /// It wrote a line to its standard error.
    Error(String),
    /// It has ended.
    Ends {
        /// What became of it.
        end: End,
        /// How long it took.
        seconds: f64,
    },
    /// All steps have, and the machine ends.
    Done {
        /// What `/proc/sys/kernel/tainted` says.
        tainted: u32,
        /// What the kernel said of it, if it has complained.
        complaints: Vec<String>,
    },
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Not in its time; it was killed.
    TimedOut,
    /// It could not be started.
    NotStarted,
}
