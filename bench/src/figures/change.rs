//! Figure 3: the time of one change inside the process of an agent, from the decoded change to the last write.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vipnat_testkit::Vipnat;

use super::memory;
use crate::{
    apps::Apps,
    changes::Changed,
    modes::Mode,
    options::Options,
    results::{Results, Row, Unit},
    rules::Table,
    scene::{check_signals, myself},
    shape::Shape,
};

/// Number of services. Each is used by every hundredth relationship.
const SERVICES: u8 = 100;

/// The two tables between which to change.
struct Turns {
    what: &'static str,
    tables: [Table; 2],
}

pub(super) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    for shape in options.shapes(&[10]) {
        for _ in 0..options.few_rounds() {
            measure_shape(options, shape, results)?;
        }
    }
    Ok(())
}

fn measure_shape(options: &Options, shape: Shape, results: &mut Results) -> Result<()> {
    let apps = Apps::new(shape)?;
    for Turns { what, tables } in turns(&apps, shape) {
        check_signals()?;
        let is_machine = shape == Shape::MACHINE;
        let (measured, all) = match (options.short, is_machine) {
            (true, _) => (50, 300),
            (false, false) => (2000, 2000),
            (false, true) => (2000, 102_000),
        };
        let Changed { times, grown } = changed(&tables, measured, all)?;
        let mut row = Row {
            figure: "change",
            what: format!("from the decoded change to the last write: {what}"),
            metric: "p50",
            unit: Unit::Nanoseconds,
            shape,
            position: None,
        };
        results.add(&row, Mode::Vipnat, times.p50);
        row.metric = "p99";
        results.add(&row, Mode::Vipnat, times.p99);
        if all > measured {
            let row = memory::growth(&format!("one process, {what}"), all - measured, shape);
            results.add(&row, Mode::Vipnat, grown);
        }
    }
    Ok(())
}

/// One relationship moves to another service, or a service to another backend.
fn turns(apps: &Apps, shape: Shape) -> [Turns; 2] {
    let services = |first: &str| -> Vec<Value> {
        let others = (2..=SERVICES).map(|n| json!([format!("247.0.1.{n}")]));
        [json!([first])].into_iter().chain(others).collect()
    };
    let table = |first, last| Table {
        cgroups: apps.relative(),
        each: shape.each(),
        services: services(first),
        last: Some(last),
    };
    [
        Turns { what: "one VIP", tables: [0, 1].map(|last| table("247.0.1.1", last)) },
        Turns { what: "one service", tables: ["247.0.1.1", "247.0.2.1"].map(|ip| table(ip, 1)) },
    ]
}

/// Changes from one table to the other and back, in another process.
fn changed(tables: &[Table; 2], measured: usize, all: usize) -> Result<Changed> {
    let vipnat = Vipnat::new();
    let first = vipnat.table(&tables[0].json());
    let second = first.with_extension("second");
    fs::write(&second, tables[1].json())?;
    let mut command = Command::new(myself()?);
    command.arg("changes").arg(vipnat.bpffs());
    command.args([measured, all].map(|number| number.to_string())).args([first, second]);
    let output = command.output().context("start this program")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
