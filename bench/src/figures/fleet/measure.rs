//! Measures each part of the figure, with the builds in turn.

use std::env;

use anyhow::Result;

use super::{
    context::{Build, Fleet},
    ending, following, listing, patterns,
};
use crate::{
    figures::progress::stage,
    modes::Mode,
    options::{Figure, Options},
    results::Results,
};

pub(in crate::figures) fn measure(options: &Options, results: &mut Results) -> Result<()> {
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
