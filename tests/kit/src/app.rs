//! An app: a cgroup on a host.

use std::{ffi::OsStr, process::Command};

use crate::{
    cgroup::Cgroup,
    command::{CommandExt, outcome},
    netns::NetNs,
    probe::Report,
    programs::program,
};

/// What a container is to vipnat: a cgroup, and the network namespace its processes are in.
#[derive(Debug)]
pub struct App {
    /// Where its sockets are.
    pub host: NetNs,
    /// What its sockets belong to.
    pub cgroup: Cgroup,
}

impl App {
    /// An app with a cgroup of its own.
    pub fn new(host: NetNs) -> Self {
        Self { host, cgroup: Cgroup::new() }
    }

    /// A command that runs as the app.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.host.command(program);
        command.in_cgroup(&self.cgroup);
        command
    }

    /// Runs the probe with these arguments, separated by spaces; one report for each line it
    /// printed.
    pub fn probes(&self, arguments: &str) -> Vec<Report> {
        let outcome =
            outcome(self.command(program("probe")).args(arguments.split_ascii_whitespace()));
        assert!(outcome.status.success(), "probe {arguments}: {outcome}");
        outcome.stdout.lines().map(Report::parse).collect()
    }

    /// The same, for a probe that makes exactly one report.
    pub fn probe(&self, arguments: &str) -> Report {
        let mut reports = self.probes(arguments);
        assert_eq!(reports.len(), 1, "probe {arguments}: {reports:?}");
        reports.remove(0)
    }
}
