//! The messages between `cargo xtask vm` and the first process of its virtual machines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The word on the kernel's command line before the path of the file with the [`Job`].
pub const JOB: &str = "vipnat.job=";

/// An environment variable that is set for tests in emulation, which is many times slower than a machine.
pub const EMULATED: &str = "VIPNAT_TESTS_EMULATED";

/// The beginning of the line by which a test reports on standard error that it is not run. The test's name, a
/// colon and the reason follow.
pub const NOT_RUN: &str = "NOT RUN: ";

/// The same for a part of a test.
pub const LEFT_OUT: &str = "LEFT OUT: ";

/// The work of a virtual machine.
#[derive(Debug, Deserialize, Serialize)]
pub struct Job {
    /// The steps, run one after the other.
    pub steps: Vec<Step>,
    /// The environment of all steps.
    pub environment: Vec<(String, String)>,
    /// The kernel modules, if there are any. The machine links them at `/lib/modules/<release>`.
    pub modules: Option<PathBuf>,
    /// The command that loads modules, as a shell reads it.
    pub modprobe: String,
}

/// A program that the machine runs as root.
#[derive(Debug, Deserialize, Serialize)]
pub struct Step {
    /// The name in [`Event`]s.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The directory in which it runs.
    pub folder: PathBuf,
    /// Time limit in seconds.
    pub seconds: u64,
}

/// The interval of [`Event::Alive`], in seconds.
pub const ALIVE_EVERY: u64 = 5;

/// An event in the machine, reported as one line on a serial line that nothing else writes to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The machine is alive, whatever the step does.
    Alive,
    /// The step with this name starts.
    Begins(String),
    /// The step wrote a line to its standard output.
    Output(String),
    /// The step wrote a line to its standard error.
    Error(String),
    /// The step ended.
    Ends {
        /// The way in which it ended.
        end: End,
        /// Its duration.
        seconds: f64,
    },
    /// All steps have ended, and the machine ends.
    Done {
        /// The content of `/proc/sys/kernel/tainted`.
        tainted: u32,
        /// The kernel's warnings and errors, if it is tainted.
        complaints: Vec<String>,
    },
}

/// The way in which a step ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It exceeded its time limit, and was killed.
    TimedOut,
    /// It could not be started.
    NotStarted,
}
