//! The measurements.

mod connect;

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;

use crate::{
    machine::Machine,
    options::{Figure, Options},
    report,
    results::Results,
    scene::{Modes, Scene, catch_signals},
};

/// Measures what is wanted, and writes it.
pub(crate) fn run(options: &Options) -> Result<()> {
    catch_signals()?;
    let begun = Instant::now();
    let mut results = Results {
        machine: Machine::look(),
        rounds: options.rounds(),
        notes: Vec::new(),
        series: Vec::new(),
    };
    measure(options, &mut results)?;
    results.finish();
    report::write(&results, &options.output)?;
    println!("took {} s", begun.elapsed().as_secs());
    Ok(())
}

fn measure(options: &Options, results: &mut Results) -> Result<()> {
    let mut scene = Scene::new()?;
    let by_modes = [Figure::Connect, Figure::Traffic, Figure::Hooks, Figure::Cpus];
    if by_modes.into_iter().any(|figure| options.wants(figure)) {
        for count in options.vips() {
            let begun = Instant::now();
            let modes = Modes::new(&mut scene, &options.modes(), count)?;
            let loaded: BTreeMap<_, _> = modes
                .loaded
                .iter()
                .filter(|(mode, _)| mode.translates())
                .map(|(mode, took)| (mode.to_string(), format!("{:.2} s", took.as_secs_f64())))
                .collect();
            println!("{count} VIPs: loaded {loaded:?}");
            connect::measure(options, &mut scene, &modes, count, results)?;
            scene.leave()?;
            println!("{count} VIPs: {} s", begun.elapsed().as_secs());
        }
    }
    Ok(())
}
