//! What is to be measured.

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
    /// What it costs all others that some cgroup has programs.
    Bystanders,
    /// What rules beside vipnat cost what it translated.
    Beside,
    /// Time in each hook.
    Hooks,
    /// Several CPUs at once.
    Cpus,
    /// Memory in the kernel and of the loader.
    Memory,
    /// Loading and changing tables and rules.
    Apply,
    /// Measures the time from the change of a file to the first connect that shows it.
    Follow,
    /// Thousands of apps and cgroups on one machine.
    Fleet,
    /// Of that, apps that lose a backend.
    FleetEnding,
    /// Of that, cgroups by patterns.
    FleetPatterns,
    /// Of that, listing.
    FleetList,
    /// Of that, following.
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
    /// How often everything is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure only this.
    #[arg(long, value_enum, num_args = 1.., value_name = "FIGURE")]
    only: Vec<Figure>,
    /// Measure with this build of vipnat as well, to compare with: connects, hooks, changes, the fleet.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) before: Option<PathBuf>,
    /// With as many VIPs.
    #[arg(long, num_args = 1.., value_name = "N")]
    vips: Vec<u32>,
    /// Only these modes.
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

    /// What takes a minute and hardly varies is measured less often.
    pub(crate) fn few_rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.short { 1 } else { 3 }).max(1)
    }

    /// Whether a part was chosen, so that much of the report has nothing in it.
    pub(crate) fn is_partial(&self) -> bool {
        !self.only.is_empty()
    }

    /// Numbers of VIPs.
    pub(crate) fn vips(&self) -> Vec<u32> {
        match &self.vips[..] {
            [] if self.short => vec![1, 10, 1000],
            [] => vec![1, 10, 1000, 10_000, 60_000],
            given => given.to_vec(),
        }
    }

    /// The fewest and the most VIPs, where those between tell nothing new.
    pub(crate) fn extremes(&self, least: u32) -> Vec<u32> {
        let vips = self.vips();
        let mut extremes: Vec<_> = vips.iter().copied().find(|&n| n >= least).into_iter().collect();
        extremes.extend(vips.last().filter(|last| !extremes.contains(last)));
        extremes
    }

    /// Direct is always there, to compare with.
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
