//! Containers that start while `vipnat run` follows thousands of apps.

use std::{
    fs,
    path::PathBuf,
    thread::{sleep, yield_now},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vipnat_testkit::bpf;

use super::{
    Fleet, apps_with,
    ground::{follow, service},
    grouped,
};
use crate::{results::Unit, scene::check_signals, stats::quantile};

/// The number of starts of each kind.
const STARTS: usize = 200;
/// After this time, the number of starts so far is enough.
const ENOUGH: Duration = Duration::from_secs(20);
/// Time limit for one start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The least time between two starts, so that the work for one is over before the next.
const PAUSE: Duration = Duration::from_millis(30);

pub(super) fn measure(fleet: &mut Fleet<'_>) -> Result<()> {
    for apps in [1000, 5000].map(|count| fleet.scaled(count)) {
        let ground = fleet.ground()?;
        let cgroups = ground.make_many("a", apps)?;
        let all = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
        let all = all.chain([("web".to_owned(), "web*".to_owned())]);
        let starts = fleet.times(STARTS);
        // These apps have no cgroup when the table is applied.
        let without = (0..starts).map(|index| (format!("new{index}"), format!("new{index}")));
        let table = ground.table(&service(&["247.0.0.1"]), all.chain(without), 1);
        let _following = follow(&ground, &table)?;
        let paths = |prefix: &str| -> Vec<_> {
            (0..starts).map(|index| ground.path().join(format!("{prefix}{index}"))).collect()
        };
        let again: Vec<_> = cgroups.into_iter().cycle().take(starts).collect();
        for (kind, cgroups) in [
            ("of a pattern starts", paths("web")),
            ("of an app starts first", paths("new")),
            ("of an app starts again", again),
        ] {
            let mut times = starts_of(&cgroups)?;
            let what = format!(
                "run, {} apps: a container {kind}, from mkdir to its last hook",
                grouped(apps)
            );
            for (metric, part) in [("p50", 0.5), ("p99", 0.99)] {
                let value = quantile(&mut times, part);
                fleet.add(&what, apps_with(apps, 1), metric, Unit::Nanoseconds, value);
            }
        }
    }
    Ok(())
}

/// Makes cgroups, one after the other, and gives the time until each has all hooks. Removes those that exist
/// before.
fn starts_of(cgroups: &[PathBuf]) -> Result<Vec<f64>> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut took = Duration::ZERO;
    for cgroup in cgroups {
        if begun.elapsed() > ENOUGH {
            break;
        }
        check_signals()?;
        if cgroup.exists() {
            fs::remove_dir(cgroup)?;
            sleep(PAUSE + 2 * took);
        }
        took = start(cgroup)?;
        times.push(took.as_nanos() as f64);
        sleep(PAUSE + 2 * took);
    }
    Ok(times)
}

/// Makes a cgroup, and waits until it has all hooks.
fn start(cgroup: &PathBuf) -> Result<Duration> {
    let begun = Instant::now();
    fs::create_dir(cgroup)?;
    while bpf::attached(cgroup) < bpf::HOOKS.len() {
        ensure!(begun.elapsed() < PATIENCE, "{} is not attached", cgroup.display());
        yield_now();
    }
    Ok(begun.elapsed())
}
