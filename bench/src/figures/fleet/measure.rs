//! Measures each part of the figure, with the builds in turn.

use anyhow::Result;

use super::{context::Fleet, ending, following, listing, patterns, resting, starting};
use crate::{
    figures::progress::stage,
    options::{Figure, Options},
    results::Results,
};

pub(in crate::figures) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    let builds = options.builds();
    for round in 0..options.few_rounds() {
        for turn in 0..builds.len() {
            let build = &builds[(round + turn) % builds.len()];
            let mut fleet = Fleet { options, build, results: &mut *results };
            for part in Figure::FLEET.into_iter().filter(|part| options.wants(*part)) {
                let (what, measure): (_, fn(&mut Fleet<'_>) -> Result<()>) = match part {
                    // Once is enough, for all builds.
                    Figure::FleetRest => continue,
                    Figure::FleetEnding => ("lost backends", ending::measure),
                    Figure::FleetPatterns => ("patterns", patterns::measure),
                    Figure::FleetStart => ("container starts", starting::measure),
                    Figure::FleetList => ("listing", listing::measure),
                    _ => ("following", following::measure),
                };
                let name = format!("a fleet: {what}, round {}, {}", round + 1, build.mode);
                stage(&name, || measure(&mut fleet))?;
            }
        }
    }
    if options.wants(Figure::FleetRest) {
        stage("a fleet: at rest", || resting::measure(options, results))?;
    }
    Ok(())
}
