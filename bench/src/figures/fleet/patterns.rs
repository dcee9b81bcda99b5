//! Cgroups by pattern: many of one app, and many apps in one directory.

use anyhow::Result;

use super::{Fleet, apps_with, ground::service, grouped};

pub(super) fn measure(fleet: &mut Fleet<'_>) -> Result<()> {
    let service = service(&["247.0.0.1"]);
    for count in [1000, 2000].map(|count| fleet.scaled(count)) {
        let ground = fleet.ground()?;
        ground.make_many("c", count)?;
        let table = ground.table(&service, [("a0".to_owned(), "c*".to_owned())], 1);
        let what = format!("apply of one app with {} cgroups by a pattern", grouped(count));
        fleet.add_times(&what, apps_with(1, 1), ground.apply(&table)?);
    }
    let count = fleet.scaled(1000);
    let ground = fleet.ground()?;
    ground.make_many("a", count)?;
    let apps = (0..count).map(|index| (format!("a{index}"), format!("a{index}")));
    let table = ground.table(&service, apps, 1);
    let what = format!("apply of {} apps with a cgroup each", grouped(count));
    fleet.add_times(&what, apps_with(count, 1), ground.apply(&table)?);
    drop(ground);

    for count in [1000, 3000].map(|count| fleet.scaled(count)) {
        let ground = fleet.ground()?;
        ground.make_many("a", count)?;
        // Each pattern matches one cgroup only.
        let apps = (0..count).map(|index| (format!("a{index}"), format!("[a]{index}")));
        let table = ground.table(&service, apps, 1);
        let what = format!("{} apps with a pattern each, in one directory", grouped(count));
        fleet.add_times(&format!("apply of {what}"), apps_with(count, 1), ground.apply(&table)?);
        let what = format!("apply of {what}, without a change");
        fleet.add_times(&what, apps_with(count, 1), ground.apply(&table)?);
    }
    Ok(())
}
