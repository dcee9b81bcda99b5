//! Listing all apps.

use std::time::Duration;

use anyhow::Result;

use super::{Fleet, apps_with, ground::service, grouped};
use crate::{figures::process::took, results::Unit, stats::Spread};

const APPS: usize = 4000;
/// Number of VIPs of each app.
const VIPS: usize = 60;
/// The most containers that are attached beside each `list`.
const ATTACHED: usize = 100;
/// Number of containers that are attached with nothing beside them.
const ALONE: usize = 5;

pub(super) fn measure(fleet: &mut Fleet<'_>) -> Result<()> {
    let apps = fleet.scaled(APPS);
    let shape = apps_with(apps, VIPS);
    let ground = fleet.ground()?;
    ground.make_many("a", apps)?;
    let table = (0..apps).map(|index| (format!("a{index}"), format!("a{index}")));
    ground.apply(&ground.table(&service(&["247.0.0.1", "247.0.0.2"]), table, VIPS))?;
    let mut cgroups = ground.make_many("more", ALONE + 2 * ATTACHED)?.into_iter();
    let alone: Vec<_> = cgroups
        .by_ref()
        .take(ALONE)
        .map(|cgroup| Ok(nanoseconds(ground.attach(&cgroup)?.time)))
        .collect::<Result<_>>()?;
    let what = format!("{} apps: an attach with nothing beside it", grouped(apps));
    fleet.add(&what, shape, "wall time", Unit::Nanoseconds, Spread::of(&alone).median);
    for arguments in [&["list"][..], &["list", "--json"]] {
        let list = ground.vipnat.command(arguments);
        let (took, longest) =
            ground.attach_beside(&mut cgroups.by_ref().take(ATTACHED), || took(&list))?;
        let what = format!("{} apps: {}", grouped(apps), arguments.join(" "));
        fleet.add_times(&what, shape, took);
        fleet.add(&what, shape, "memory, at most", Unit::Bytes, took.peak as f64);
        let what = format!("{what}: an attach meanwhile, at most");
        fleet.add(&what, shape, "wall time", Unit::Nanoseconds, nanoseconds(longest));
    }
    Ok(())
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_nanos() as f64
}
