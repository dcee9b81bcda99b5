//! Runs the program `load` in the background, and reads its output.

use std::{
    collections::BTreeMap,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};

use serde::{Deserialize, Serialize};

/// The results of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// The number of answered connections and datagram flows, by destination.
    pub answered: BTreeMap<String, u64>,
    /// The number that an unexpected server answered.
    pub crossed: u64,
    /// The number that failed.
    pub failed: u64,
    /// The first errors, as text for people.
    pub examples: Vec<String>,
}

impl Tally {
    /// The number of answered connections and flows.
    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        let Self { answered, crossed, failed, examples } = other;
        for (destination, count) in answered {
            *self.answered.entry(destination).or_default() += count;
        }
        self.crossed += crossed;
        self.failed += failed;
        self.examples.extend(examples);
        self.examples.truncate(10);
    }

    /// Panics unless each connection and flow got the right answer.
    pub fn assert_flawless(&self) {
        assert!(self.failed == 0 && self.crossed == 0 && self.total() > 0, "{self:#?}");
    }
}

/// A running `load`.
#[derive(Debug)]
pub struct Load {
    process: Child,
    /// The program ends when this is closed.
    stop: Option<ChildStdin>,
}

impl Load {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        let stop = process.stdin.take();
        Self { process, stop }
    }

    /// Ends it, and gives its tally.
    pub fn stop(mut self) -> Tally {
        self.stop = None;
        let stdout = self.process.stdout.take().expect("stdout is piped");
        let tally = serde_json::from_reader(stdout);
        let status = self.process.wait().expect("wait for load");
        assert!(status.success(), "load: {status}");
        tally.expect("load prints a tally")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.process.kill();
        }
        self.stop = None;
        let _ = self.process.wait();
    }
}
