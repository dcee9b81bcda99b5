//! The options of a run: which figures, modes and numbers of VIPs to measure.

use std::{collections::BTreeSet, env, path::PathBuf};

use clap::{Args, ValueEnum};
use vipnat_testkit::{TEST_PREFIX, Vipnat};

use crate::{modes::Mode, shape::Shape};

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
    /// One change inside the process of an agent.
    Change,
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
    /// Part of fleet: containers that start.
    FleetStart,
    /// Part of fleet: vipnat run while cgroups come and go.
    FleetRun,
    /// Part of fleet: vipnat run while nothing happens.
    FleetRest,
}

impl Figure {
    /// The parts of [`Figure::Fleet`].
    pub(crate) const FLEET: [Self; 6] = [
        Self::FleetEnding,
        Self::FleetPatterns,
        Self::FleetList,
        Self::FleetStart,
        Self::FleetRun,
        Self::FleetRest,
    ];
}

/// A build of vipnat that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) mode: Mode,
    pub(crate) program: PathBuf,
}

impl Build {
    /// A state of its own.
    pub(crate) fn vipnat(&self) -> Vipnat {
        Vipnat::with(&self.program, TEST_PREFIX)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A smoke run of two minutes: few VIPs, few rounds.
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
    /// The numbers of VIPs to measure with: N of one app, or APPSxN for loading, changing and following.
    #[arg(long, num_args = 1.., value_name = "N|APPSxN")]
    vips: Vec<Shape>,
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

    /// The numbers of VIPs of one app to measure with.
    pub(crate) fn vips(&self) -> Vec<u32> {
        match &self.vips[..] {
            [] if self.short => vec![1, 10, 1000],
            [] => vec![1, 10, 1000, 10_000, 60_000],
            given => given.iter().filter(|shape| shape.is_one_app()).map(|it| it.vips).collect(),
        }
    }

    /// The shapes to measure with, where the time is that of a table: the extremes from each of `least` on,
    /// and many apps.
    pub(crate) fn shapes(&self, least: &[u32]) -> Vec<Shape> {
        let vips: BTreeSet<_> = least.iter().flat_map(|least| self.extremes(*least)).collect();
        let one_app = vips.into_iter().map(Shape::one_app);
        let many: Vec<_> = match &self.vips[..] {
            [] => vec![Shape::MACHINE],
            given => given.iter().copied().filter(|shape| !shape.is_one_app()).collect(),
        };
        one_app.chain(many).collect()
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

    /// Whether the build to measure is the one of which this program is a part.
    pub(crate) fn is_this_build(&self) -> bool {
        env::var_os("VIPNAT_BIN").is_none()
    }

    /// The builds to measure where a figure compares builds alone.
    pub(crate) fn builds(&self) -> Vec<Build> {
        let program = vipnat_testkit::program("vipnat");
        let before = self.before.clone().map(|program| Build { mode: Mode::Before, program });
        [Build { mode: Mode::Vipnat, program }].into_iter().chain(before).collect()
    }

    pub(crate) fn wants(&self, figure: Figure) -> bool {
        let whole = Figure::FLEET.contains(&figure) && self.only.contains(&Figure::Fleet);
        self.only.is_empty() || self.only.contains(&figure) || whole
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &str) -> Options {
        let given = ["bench", "--output", "x"].into_iter().chain(arguments.split_whitespace());
        Cli::parse_from(given).options
    }

    #[test]
    fn shapes_are_the_extremes_and_a_machine() {
        let one = Shape::one_app;
        for (given, least, expected) in [
            ("", &[10, 1000][..], vec![one(10), one(1000), one(60_000), Shape::MACHINE]),
            ("--short", &[1000], vec![one(1000), Shape::MACHINE]),
            ("--vips 1 20 30", &[10], vec![one(20), one(30)]),
            ("--vips 20 2x5 300x3", &[10], vec![one(20), Shape::many_apps(2, 5), Shape::MACHINE]),
            ("--vips 300x3", &[10, 1000], vec![Shape::MACHINE]),
        ] {
            assert_eq!(options(given).shapes(least), expected, "{given}");
        }
        assert!(options("--vips 300x3").vips().is_empty());
    }
}
