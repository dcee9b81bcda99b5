//! `vipnat run` while other cgroups come and go.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::unistd::Pid;

use super::{
    Fleet, apps_with,
    ground::{follow, service},
    grouped,
};
use crate::{figures::process::cpu_time, results::Unit, scene::check_signals, stats::Spread};

/// Number of containers that start, one after the other.
const STARTED: usize = 5;
/// Seconds after which all work for an event is done. The work takes much less time than this.
const SETTLED: f64 = 1.5;

pub(super) fn measure(fleet: &mut Fleet<'_>) -> Result<()> {
    // The cost of a container must not depend on the number of others.
    few_and_many(fleet)?;
    by_hand(fleet)?;
    patterns(fleet)
}

/// Apps with one cgroup each, and one app whose containers start.
fn few_and_many(fleet: &mut Fleet<'_>) -> Result<()> {
    for apps in [50, 5000].map(|count| fleet.scaled(count)) {
        let ground = fleet.ground()?;
        ground.make_many("a", apps)?;
        let all = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
        let all = all.chain([("web".to_owned(), "web*".to_owned())]);
        let mut following = follow(&ground, &ground.table(&service(&["247.0.0.1"]), all, 1))?;
        let name = format!("run, {} apps", grouped(apps));
        let (mut times, mut cpu) = (Vec::new(), Vec::new());
        for index in 0..STARTED {
            check_signals()?;
            let before = cpu_time(following.pid())?;
            let begun = Instant::now();
            ground.make(&format!("web{index}"))?;
            following.wait_for(|line| line.starts_with("+ app web in cgroup "));
            times.push(begun.elapsed().as_nanos() as f64);
            sleep(Duration::from_secs_f64(fleet.seconds(SETTLED)));
            cpu.push((cpu_time(following.pid())? - before).as_nanos() as f64);
        }
        let what = format!("{name}: a container starts and is attached");
        for (metric, values) in [("wall time", times), ("CPU time", cpu)] {
            let median = Spread::of(&values).median;
            fleet.add(&what, apps_with(apps, 1), metric, Unit::Nanoseconds, median);
        }
        for rate in [20, 200] {
            let share = flood(fleet, ground.path(), following.pid(), f64::from(rate))?;
            let what = format!("{name}: {rate} cgroups of others come or go a second");
            fleet.add(&what, apps_with(apps, 1), "share of a CPU", Unit::Percent, share);
        }
    }
    Ok(())
}

/// One container is attached by hand, inside a tree of cgroups that a tenant makes and removes.
fn by_hand(fleet: &mut Fleet<'_>) -> Result<()> {
    let (apps, others) = (fleet.scaled(50), fleet.scaled(20_000));
    let ground = fleet.ground()?;
    ground.make_many("a", apps)?;
    let all = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
    let table = ground.table(&service(&["247.0.0.1"]), all, 1);
    let tenant = ground.make("tenant")?;
    for index in 0..others.div_ceil(100) {
        check_signals()?;
        let group = tenant.join(format!("g{index}"));
        fs::create_dir(&group)?;
        for index in 0..99.min(others) {
            fs::create_dir(group.join(index.to_string()))?;
        }
    }
    ground.apply(&table)?;
    ground.attach(&ground.make("tenant/container")?)?;
    let following = follow(&ground, &table)?;
    let share = flood(fleet, &tenant, following.pid(), 200.0)?;
    let what = format!(
        "run, {} apps, one attached by hand beside {} cgroups of others, of which 200 come or go \
         a second",
        grouped(apps),
        grouped(others)
    );
    fleet.add(&what, apps_with(apps, 1), "share of a CPU", Unit::Percent, share);
    Ok(())
}

/// Apps with a pattern each, in a directory in which other cgroups come and go.
fn patterns(fleet: &mut Fleet<'_>) -> Result<()> {
    let apps = fleet.scaled(1000);
    let ground = fleet.ground()?;
    ground.make_many("a", apps)?;
    let all = (0..apps).map(|index| (format!("a{index}"), format!("[a]{index}")));
    let following = follow(&ground, &ground.table(&service(&["247.0.0.1"]), all, 1))?;
    let share = flood(fleet, ground.path(), following.pid(), 1.0)?;
    let what = format!(
        "run, {} apps with a pattern each: one cgroup of others comes or goes a second",
        grouped(apps)
    );
    fleet.add(&what, apps_with(apps, 1), "share of a CPU", Unit::Percent, share);
    Ok(())
}

/// Makes and removes cgroups in a directory for ten seconds, `rate` times a second.
///
/// The result is the share of a CPU that `process` takes meanwhile. `vipnat run` checks everything only after
/// 30 seconds, which is later.
fn flood(fleet: &Fleet<'_>, place: &Path, process: Pid, rate: f64) -> Result<f64> {
    let (begun, before) = (Instant::now(), cpu_time(process)?);
    let other = place.join("other");
    let mut events = 0.0;
    while events < rate * fleet.seconds(10.0) {
        check_signals()?;
        if other.exists() {
            fs::remove_dir(&other)?;
        } else {
            fs::create_dir(&other)?;
        }
        events += 1.0;
        let next = Duration::from_secs_f64(events / rate);
        sleep(next.saturating_sub(begun.elapsed()));
    }
    let cpu = cpu_time(process)? - before;
    Ok(100.0 * cpu.as_secs_f64() / begun.elapsed().as_secs_f64())
}
