//! An app: a cgroup on a host.

use std::{ffi::OsStr, process::Command};

use crate::{
    cgroup::Cgroup,
    command::{CommandExt, outcome},
    netns::NetNs,
    probe::Report,
    programs::program,
};

/// A container as vipnat sees it: a cgroup, and the network namespace of its processes.
#[derive(Debug)]
pub struct App {
    /// The host of its sockets.
    pub host: NetNs,
    /// The cgroup of its sockets.
    pub cgroup: Cgroup,
}

impl App {
    /// Makes an app with a new cgroup.
    pub fn new(host: NetNs) -> Self {
        Self { host, cgroup: Cgroup::new() }
    }

    /// A command that runs as the app.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.host.command(program);
        command.in_cgroup(&self.cgroup);
        command
    }

    /// Runs the probe with these arguments, separated by spaces. Gives one report for each line of its
    /// output.
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
