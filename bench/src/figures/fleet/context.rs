//! The context of each part of the figure: a build, the options, and the results.

use anyhow::Result;

use super::ground::Ground;
use crate::{
    figures::process::Took,
    options::{Build, Options},
    report,
    results::{Results, Row, Unit},
    scene::check_signals,
    shape::Shape,
};

/// The `figure` of all rows of the fleet.
pub(crate) const FLEET: &str = "fleet";

/// A number with commas between thousands.
pub(super) fn grouped(number: usize) -> String {
    report::grouped(number as u32)
}

/// Apps with `each` VIPs each.
pub(super) fn apps_with(apps: usize, each: usize) -> Shape {
    Shape::many_apps(apps as u32, each as u32)
}

/// The build to measure, the options, and the results so far.
pub(super) struct Fleet<'a> {
    pub(super) options: &'a Options,
    pub(super) build: &'a Build,
    pub(super) results: &'a mut Results,
}

impl Fleet<'_> {
    /// `count`, or a hundredth of it in a smoke run.
    pub(super) fn scaled(&self, count: usize) -> usize {
        if self.options.short { (count / 100).max(2) } else { count }
    }

    /// `count`, or a tenth of it in a smoke run.
    pub(super) fn times(&self, count: usize) -> usize {
        if self.options.short { count / 10 } else { count }
    }

    /// `seconds`, or at most 0.4 in a smoke run.
    pub(super) fn seconds(&self, seconds: f64) -> f64 {
        if self.options.short { seconds.min(0.4) } else { seconds }
    }

    pub(super) fn ground(&self) -> Result<Ground> {
        check_signals()?;
        Ok(Ground::new(self.build))
    }

    pub(super) fn add(
        &mut self,
        what: &str,
        shape: Shape,
        metric: &'static str,
        unit: Unit,
        value: f64,
    ) {
        let what = what.to_owned();
        let row = Row { figure: FLEET, what, metric, unit, shape, position: None };
        self.results.add(&row, self.build.mode, value);
    }

    /// Adds the wall time and the CPU time of a command.
    pub(super) fn add_times(&mut self, what: &str, shape: Shape, took: Took) {
        let Took { time, cpu, peak: _ } = took;
        self.add(what, shape, "wall time", Unit::Nanoseconds, time.as_nanos() as f64);
        self.add(what, shape, "CPU time", Unit::Nanoseconds, cpu.as_nanos() as f64);
    }
}
