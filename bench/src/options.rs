//! The options of a run: which figures, modes and numbers of VIPs to measure.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::modes::Mode;

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Figure {
    /// connect() of UDP and TCP, and short connections.
    Connect,
    /// Requests, datagrams and bulk.
    Traffic,
    /// The cost for sockets of other cgroups once one cgroup has programs.
    Bystanders,
    /// The cost of rules beside vipnat for connections that it translates.
    Beside,
    /// The time in each hook.
    Hooks,
    /// Connects from several CPUs at once.
    Cpus,
    /// Memory of the kernel and of the loader.
    Memory,
    /// Loading and changing tables and rules.
    Apply,
    /// The time from the change of a file to the first connect that shows it.
    Follow,
    /// Thousands of apps and cgroups on one machine.
    Fleet,
    /// Part of fleet: apps that lose a backend.
    FleetEnding,
    /// Part of fleet: cgroups by patterns.
    FleetPatterns,
    /// Part of fleet: listing.
    FleetList,
    /// Part of fleet: vipnat run.
    FleetRun,
}

impl Figure {
    /// The parts of [`Figure::Fleet`].
    pub(crate) const FLEET: [Self; 4] =
        [Self::FleetEnding, Self::FleetPatterns, Self::FleetList, Self::FleetRun];
}

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A smoke run of a minute: few VIPs, few rounds.
    #[arg(long)]
    pub(crate) short: bool,
    /// How many rounds to measure.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure only these figures.
    #[arg(long, value_enum, num_args = 1.., value_name = "FIGURE")]
    only: Vec<Figure>,
    /// Also measure this build of vipnat, for comparison: connects, hooks, changes and the fleet.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) before: Option<PathBuf>,
    /// The numbers of VIPs to measure with.
    #[arg(long, num_args = 1.., value_name = "N")]
    vips: Vec<u32>,
    /// Measure only these modes, and direct.
    #[arg(long, value_enum, num_args = 1.., value_name = "MODE")]
    modes: Vec<Mode>,
    /// Where to write results.json, results.md and the plots.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

impl Options {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.short { 3 } else { 15 }).max(1)
    }

    /// Rounds for measurements that take a minute and hardly vary.
    pub(crate) fn few_rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.short { 1 } else { 3 }).max(1)
    }

    /// Whether figures were chosen. The other tables of the report are then empty.
    pub(crate) fn is_partial(&self) -> bool {
        !self.only.is_empty()
    }

    /// The numbers of VIPs to measure with.
    pub(crate) fn vips(&self) -> Vec<u32> {
        match &self.vips[..] {
            [] if self.short => vec![1, 10, 1000],
            [] => vec![1, 10, 1000, 10_000, 60_000],
            given => given.to_vec(),
        }
    }

    /// The smallest number of VIPs from `least` on, and the largest. The numbers between add nothing new.
    pub(crate) fn extremes(&self, least: u32) -> Vec<u32> {
        let vips = self.vips();
        let mut extremes: Vec<_> = vips.iter().copied().find(|&n| n >= least).into_iter().collect();
        extremes.extend(vips.last().filter(|last| !extremes.contains(last)));
        extremes
    }

    /// The modes to measure. Direct is always one of them, for comparison.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        let wanted = |mode: &Mode| match mode {
            Mode::Untouched => false,
            Mode::Before => self.before.is_some(),
            mode if Mode::BESIDE.contains(mode) => false,
            Mode::Direct => true,
            mode => self.modes.is_empty() || self.modes.contains(mode),
        };
        Mode::ALL.into_iter().filter(wanted).collect()
    }

    pub(crate) fn wants(&self, figure: Figure) -> bool {
        let whole = Figure::FLEET.contains(&figure) && self.only.contains(&Figure::Fleet);
        self.only.is_empty() || self.only.contains(&figure) || whole
    }
}
