//! Figure 5: what it costs that a machine has thousands of apps and cgroups.
//!
//! Nothing here is about single connects. It is about commands, and about what an `attach`, for which a
//! container waits, takes beside them.

mod ending;
mod following;
mod ground;
mod listing;
mod patterns;

use std::{env, path::PathBuf};

use anyhow::Result;

use self::ground::Ground;
use super::{process::Took, stage};
use crate::{
    modes::Mode,
    options::{Figure, Options},
    report,
    results::{Results, Row, Unit},
    scene::check_signals,
};

/// The figure of all rows here.
pub(crate) const FLEET: &str = "fleet";

/// A build of vipnat that is measured.
#[derive(Clone, Debug)]
struct Build {
    mode: Mode,
    program: PathBuf,
}

/// A number, for people.
fn grouped(number: usize) -> String {
    report::grouped(number as u32)
}

/// What is measured with which build, and where the values go.
struct Fleet<'a> {
    options: &'a Options,
    build: &'a Build,
    results: &'a mut Results,
}

pub(super) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    let program = vipnat_testkit::program("vipnat");
    let mut builds = vec![Build { mode: Mode::Vipnat, program }];
    if let Some(before) = &options.before {
        let program = env::current_dir()?.join(before);
        builds.push(Build { mode: Mode::Before, program });
    }
    for round in 0..options.few_rounds() {
        for turn in 0..builds.len() {
            let build = &builds[(round + turn) % builds.len()];
            let mut fleet = Fleet { options, build, results: &mut *results };
            for part in Figure::FLEET.into_iter().filter(|part| options.wants(*part)) {
                let (what, measure): (_, fn(&mut Fleet<'_>) -> Result<()>) = match part {
                    Figure::FleetEnding => ("lost backends", ending::measure),
                    Figure::FleetPatterns => ("patterns", patterns::measure),
                    Figure::FleetList => ("listing", listing::measure),
                    _ => ("following", following::measure),
                };
                let name = format!("a fleet: {what}, round {}, {}", round + 1, build.mode);
                stage(&name, || measure(&mut fleet))?;
            }
        }
    }
    Ok(())
}

impl Fleet<'_> {
    /// As many, or few enough for a smoke run.
    fn scaled(&self, count: usize) -> usize {
        if self.options.short { (count / 100).max(2) } else { count }
    }

    /// As long, or short enough for a smoke run.
    fn seconds(&self, seconds: f64) -> f64 {
        if self.options.short { seconds.min(0.4) } else { seconds }
    }

    fn ground(&self) -> Result<Ground> {
        check_signals()?;
        Ok(Ground::new(&self.build.program))
    }

    fn add(&mut self, what: &str, vips: usize, metric: &'static str, unit: Unit, value: f64) {
        let what = what.to_owned();
        let row = Row { figure: FLEET, what, metric, unit, vips: vips as u32, position: None };
        self.results.add(&row, self.build.mode, value);
    }

    /// The times of a command.
    fn add_times(&mut self, what: &str, vips: usize, took: Took) {
        let Took { time, cpu, peak: _ } = took;
        self.add(what, vips, "wall time", Unit::Nanoseconds, time.as_nanos() as f64);
        self.add(what, vips, "CPU time", Unit::Nanoseconds, cpu.as_nanos() as f64);
    }
}
