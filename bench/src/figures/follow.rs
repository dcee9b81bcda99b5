//! Figure 3: the time from a change of a file that `vipnat run` follows to the first connect that goes to the
//! new place.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;

use super::reading;
use crate::{
    apps::Apps,
    options::{Build, Options},
    protocol::{Command, port},
    results::{Results, Row, Unit},
    rules::Table,
    scene::{BACKEND, Scene},
    shape::Shape,
    stats::quantile,
    vips::vip,
};

pub(super) const FOLLOW: &str = "follow";

/// Number of services. The relationship that changes goes to one of the last two in turn.
const SERVICES: usize = 100;

/// After this time, the number of changes so far is enough.
const ENOUGH: Duration = Duration::from_secs(20);

pub(super) fn measure(options: &Options, scene: &mut Scene, results: &mut Results) -> Result<()> {
    for shape in options.shapes(&[10, 1000]) {
        let changes = match (options.short, shape.vips) {
            (true, _) => 20,
            (false, ..=1000) => 300,
            (false, _) => 100,
        };
        let builds = options.builds();
        let mut row = Row {
            figure: FOLLOW,
            what: "from the change of the file to the first connect".to_owned(),
            metric: "p50",
            unit: Unit::Nanoseconds,
            shape,
            position: None,
        };
        let mut all = vec![Vec::new(); builds.len()];
        // The builds take turns, as the modes of other figures do.
        let blocks = if builds.len() > 1 { 5 } else { 1 };
        for block in 0..blocks {
            for turn in 0..builds.len() {
                let which = (block + turn) % builds.len();
                let build = &builds[which];
                let times = follow(scene, build, shape, changes / blocks)?;
                times.iter().for_each(|time| results.add(&row, build.mode, *time));
                all[which].extend(times);
            }
        }
        row.metric = "p99";
        for (build, mut times) in builds.iter().zip(all) {
            results.add(&row, build.mode, quantile(&mut times, 0.99));
        }
        if options.is_this_build() {
            let [table, _] = tables(&Apps::new(shape)?, shape);
            reading::measure(&table, shape, results)?;
        }
    }
    Ok(())
}

fn follow(scene: &mut Scene, build: &Build, shape: Shape, changes: usize) -> Result<Vec<f64>> {
    // The programs are dropped before the cgroups to which they are attached.
    let apps = Apps::new(shape)?;
    let vipnat = build.vipnat();
    let [answered, refused] = tables(&apps, shape).map(|table| table.json());
    let to = vipnat.table(&refused);
    let from = to.with_extension("new");
    let following = vipnat.follow(&refused, &[]);
    let place = scene.direct();
    scene.tell(&Command::Move { netns: place.netns.path(), cgroup: apps.last() })?;
    let mut times = Vec::new();
    let begun = Instant::now();
    for change in 0..changes {
        if begun.elapsed() > ENOUGH {
            break;
        }
        let answers = change % 2 == 0;
        fs::write(&from, if answers { &answered } else { &refused })?;
        // Waits until the previous change is over, including the clean-up after it.
        let before: f64 = times.last().copied().unwrap_or_default();
        sleep(Duration::from_millis(20) + Duration::from_nanos(2 * before as u64));
        let (from, to, vip) = (from.clone(), to.clone(), vip(shape.each() - 1));
        let sample = scene.sample(&Command::Rename { from, to, vip, answered: answers })?;
        scene.drain()?;
        times.push(sample.mean);
    }
    scene.leave()?;
    drop(following);
    Ok(times)
}

/// Two tables. In one, the last VIP of the last app answers; in the other it refuses.
fn tables(apps: &Apps, shape: Shape) -> [Table; 2] {
    let service = |port| json!([{ "ip": BACKEND, "port": port }]);
    let mut services = vec![service(port::CONNECT); SERVICES - 1];
    services.push(service(port::CLOSED));
    [SERVICES - 2, SERVICES - 1].map(|last| Table {
        cgroups: apps.relative(),
        each: shape.each(),
        services: services.clone(),
        last: Some(last),
    })
}
