//! Figure 1: times that applications see.

use anyhow::Result;

use crate::{
    modes::Mode,
    options::{Figure, Options},
    protocol::{Operation, Position, Sample},
    results::{Results, Row, Unit},
    scene::{Modes, Scene},
    shape::Shape,
};

/// The headings in the results.
const CONNECT: &str = "connect";
const TRAFFIC: &str = "traffic";
const BULK: &str = "bulk";

struct Plan {
    figure: &'static str,
    operation: Operation,
    position: Position,
    milliseconds: u64,
}

/// The cells to measure with `count` VIPs.
fn plan(options: &Options, count: u32) -> Vec<Plan> {
    use Operation as O;
    let mut plan = Vec::new();
    let mut add = |figure, operation, position, milliseconds| {
        let milliseconds = if options.short { milliseconds / 3 } else { milliseconds };
        plan.push(Plan { figure, operation, position, milliseconds });
    };
    let traffic = options.extremes(10).contains(&count);
    if options.wants(Figure::Connect) {
        let places = if count == 1 {
            &[Position::Random][..]
        } else {
            &[Position::Random, Position::First, Position::Last, Position::Hot]
        };
        for &position in places {
            add(CONNECT, O::UdpReconnect, position, 20);
            add(CONNECT, O::TcpConnect, position, 40);
        }
        add(CONNECT, O::UdpFresh, Position::Random, 30);
        add(CONNECT, O::UdpFlow, Position::Random, 30);
        add(CONNECT, O::TcpCrr, Position::Random, 50);
        if traffic {
            add(CONNECT, O::UdpFreshElsewhere, Position::Random, 30);
            add(CONNECT, O::UdpFreshNoVip, Position::Random, 30);
        }
        if options.extremes(10).contains(&count) && !options.short {
            add(CONNECT, O::UdpReconnect, Position::Cold, 0);
            add(CONNECT, O::TcpConnect, Position::Cold, 0);
        }
    }
    if options.wants(Figure::Traffic) && traffic {
        for operation in [O::TcpRr, O::UdpRr, O::UdpRrUnconnected] {
            add(TRAFFIC, operation, Position::Last, 40);
        }
        for operation in [O::UdpSend, O::UdpSendto] {
            add(TRAFFIC, operation, Position::Last, 25);
        }
        add(BULK, O::TcpBulk, Position::Last, 0);
    }
    plan
}

/// Measures all modes in turn within each round. Each round begins with another mode.
pub(crate) fn measure(
    options: &Options,
    scene: &mut Scene,
    modes: &Modes,
    count: u32,
    results: &mut Results,
) -> Result<()> {
    let plan = plan(options, count);
    if plan.is_empty() {
        return Ok(());
    }
    // The first round is the warm-up, and its values are dropped.
    for round in 0..=options.rounds() {
        for cell in &plan {
            for (mode, place) in modes.rotated(round) {
                let sample =
                    scene.measure(place, cell.operation, cell.position, cell.milliseconds)?;
                if round > 0 {
                    record(results, cell, count, mode, sample);
                }
            }
        }
    }
    Ok(())
}

fn record(results: &mut Results, cell: &Plan, count: u32, mode: Mode, sample: Sample) {
    let metrics: &[(&str, f64)] = match cell.operation {
        Operation::TcpBulk => &[("p50", sample.p50), ("mean", sample.mean)],
        _ if cell.position == Position::Cold => &[("p50", sample.p50)],
        _ => &[("p50", sample.p50), ("p99", sample.p99), ("mean", sample.mean)],
    };
    for &(metric, value) in metrics {
        let row = Row {
            figure: cell.figure,
            what: cell.operation.to_string(),
            metric,
            unit: Unit::Nanoseconds,
            shape: Shape::one_app(count),
            position: Some(cell.position),
        };
        results.add(&row, mode, value);
    }
}
