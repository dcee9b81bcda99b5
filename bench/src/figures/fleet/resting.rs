//! `vipnat run` while nothing happens: what its reviews cost.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Fleet, apps_with,
    ground::{follow, service},
    grouped,
};
use crate::{
    figures::process::{cpu_time, resident},
    options::Options,
    results::{Results, Unit},
    scene::check_signals,
};

const APPS: usize = 5000;
/// The time of rest. A review is due every 30 seconds.
const REST: Duration = Duration::from_secs(300);
/// The same in a smoke run: one review.
const SHORT_REST: Duration = Duration::from_secs(32);

/// Measures all builds at the same time, since each is at rest.
pub(super) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    let builds = options.builds();
    let mut runs = Vec::new();
    for build in &builds {
        let fleet = Fleet { options, build, results: &mut *results };
        let apps = fleet.scaled(APPS);
        let ground = fleet.ground()?;
        ground.make_many("a", apps)?;
        let all = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
        let following = follow(&ground, &ground.table(&service(&["247.0.0.1"]), all, 1))?;
        // The process ends before its state is removed.
        runs.push((build, apps, following, ground));
    }
    let before: Vec<_> =
        runs.iter().map(|(_, _, following, _)| cpu_time(following.pid())).collect::<Result<_>>()?;
    let begun = Instant::now();
    while begun.elapsed() < if options.short { SHORT_REST } else { REST } {
        check_signals()?;
        sleep(Duration::from_millis(100));
    }
    for ((build, apps, following, _), before) in runs.iter().zip(before) {
        let mut fleet = Fleet { options, build, results: &mut *results };
        let cpu = cpu_time(following.pid())? - before;
        let share = 100.0 * cpu.as_secs_f64() / begun.elapsed().as_secs_f64();
        let what = format!("run, {} apps, at rest", grouped(*apps));
        let shape = apps_with(*apps, 1);
        fleet.add(&what, shape, "share of a CPU", Unit::Percent, share);
        let memory = resident(following.pid())? as f64;
        fleet.add(&what, shape, "memory", Unit::Bytes, memory);
    }
    Ok(())
}
