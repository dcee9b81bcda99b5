//! Measures each chosen figure in turn.

use std::time::Instant;

use anyhow::Result;

use super::{
    apply, beside, bystanders, change, connect, cpus, fleet, follow, hooks, memory, progress::stage,
};
use crate::{
    machine::Machine,
    options::{Figure, Options},
    report,
    results::Results,
    scene::{Modes, Scene, catch_signals},
};

/// Measures the chosen figures, and writes the report.
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
    report::write(&results, &options.output, options.is_partial())?;
    println!("took {} s", begun.elapsed().as_secs());
    Ok(())
}

fn measure(options: &Options, results: &mut Results) -> Result<()> {
    // The first fixture removes what earlier runs left.
    let mut scene = Scene::new(options.before.clone())?;
    if options.wants(Figure::Bystanders) {
        stage("what programs cost those who have none", || {
            bystanders::measure(options, &mut scene, results)
        })?;
    }
    // Figures other than connects hardly depend on the number of VIPs.
    let by_modes = [Figure::Connect, Figure::Traffic, Figure::Cpus, Figure::Memory];
    if by_modes.into_iter().any(|figure| options.wants(figure)) {
        let few = !options.wants(Figure::Connect);
        for count in if few { options.extremes(10) } else { options.vips() } {
            stage(&format!("{count} VIPs"), || by_mode(options, &mut scene, count, results))?;
        }
    }
    if options.wants(Figure::Beside) {
        stage("rules beside vipnat", || beside::measure(options, &mut scene, results))?;
    }
    if options.wants(Figure::Hooks) {
        stage("time in hooks", || hooks::measure(options, &mut scene, results))?;
    }
    if options.wants(Figure::Memory) {
        stage("memory", || memory::of_tables(options, results))?;
        stage("memory of vipnat run", || memory::of_run(options, results))?;
    }
    if options.wants(Figure::Change) && options.is_this_build() {
        stage("changes inside a process", || change::measure(options, results))?;
    }
    if options.wants(Figure::Follow) {
        stage("changes of a file", || follow::measure(options, &mut scene, results))?;
    }
    if options.wants(Figure::Apply) {
        stage("loading and changing", || apply::measure(options, results))?;
    }
    if Figure::FLEET.into_iter().any(|part| options.wants(part)) {
        fleet::measure(options, results)?;
    }
    Ok(())
}

/// Measures in all modes with `count` VIPs.
fn by_mode(options: &Options, scene: &mut Scene, count: u32, results: &mut Results) -> Result<()> {
    let modes = Modes::new(scene, &options.modes(), count)?;
    connect::measure(options, scene, &modes, count, results)?;
    let most = options.vips().last() == Some(&count);
    if options.wants(Figure::Cpus) && most {
        cpus::measure(options, scene, &modes, count, results)?;
    }
    if options.wants(Figure::Memory) && most {
        memory::of_sockets(options, scene, &modes, count, results)?;
    }
    scene.leave()
}
