//! The cost for sockets of all other cgroups once one cgroup has programs. From then on, the kernel checks at
//! each connect whether there is a program to run.

use anyhow::Result;

use crate::{
    modes::Mode,
    options::Options,
    protocol::{Operation, Position},
    results::{Results, Row, Unit},
    scene::Scene,
    shape::Shape,
};

const BYSTANDERS: &str = "bystanders";

const OPERATIONS: [Operation; 4] =
    [Operation::UdpReconnect, Operation::UdpFresh, Operation::UdpSendto, Operation::TcpConnect];

/// Measures before vipnat is there, with and without empty programs on a cgroup other than the client's.
pub(super) fn measure(options: &Options, scene: &mut Scene, results: &mut Results) -> Result<()> {
    let place = scene.direct();
    for round in 0..=options.rounds() {
        for turn in 0..2 {
            let mode = if (round + turn) % 2 == 0 { Mode::Untouched } else { Mode::Direct };
            scene.empty_programs.clear();
            if mode == Mode::Direct {
                scene.attach_empty_programs()?;
            }
            for operation in OPERATIONS {
                let sample = scene.measure(&place, operation, Position::Random, 30)?;
                let row = Row {
                    figure: BYSTANDERS,
                    what: operation.to_string(),
                    metric: "p50",
                    unit: Unit::Nanoseconds,
                    shape: Shape::one_app(0),
                    position: None,
                };
                if round > 0 {
                    results.add(&row, mode, sample.p50);
                }
            }
        }
    }
    scene.empty_programs.clear();
    scene.attach_empty_programs()
}
