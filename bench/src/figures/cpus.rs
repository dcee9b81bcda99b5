//! Figure 5: several CPUs connect at once, to one VIP (whose cursor they share) and to many.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{
    cpus,
    options::Options,
    protocol::{Command, Destination},
    results::{Results, Row, Unit},
    scene::{Modes, Scene},
    shape::Shape,
};

const CPUS: &str = "cpus";

pub(super) fn measure(
    options: &Options,
    scene: &mut Scene,
    modes: &Modes,
    count: u32,
    results: &mut Results,
) -> Result<()> {
    let milliseconds = if options.short { 20 } else { 60 };
    for round in 0..=options.rounds() {
        for threads in BTreeSet::from([1, 2.min(cpus()), cpus()]) {
            for (among, name) in [(1, "one VIP"), (count, "many VIPs")] {
                for (mode, place) in modes.rotated(round) {
                    if mode.has_rules() {
                        continue;
                    }
                    let destination = match place.destination {
                        Destination::Vips { .. } => Destination::Vips { count: among },
                        address => address,
                    };
                    scene.go(place)?;
                    let command = Command::Threads { count: threads, destination, milliseconds };
                    let sample = scene.sample(&command)?;
                    let row = Row {
                        figure: CPUS,
                        what: format!("{threads} CPUs to {name}, UDP connect() again"),
                        metric: "mean",
                        unit: Unit::Nanoseconds,
                        shape: Shape::one_app(count),
                        position: None,
                    };
                    if round > 0 {
                        results.add(&row, mode, sample.mean);
                    }
                }
            }
        }
    }
    Ok(())
}
