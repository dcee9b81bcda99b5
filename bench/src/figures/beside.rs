//! The cost of rules beside vipnat for translated sockets: each packet passes these rules.

use anyhow::Result;

use crate::{
    modes::Mode,
    options::Options,
    protocol::{Operation, Position},
    results::{Results, Row, Unit},
    scene::{Modes, Scene},
    shape::Shape,
};

/// The number does not matter for the rules: packets of translated sockets leave the chain before the rule of
/// any VIP.
const VIPS: u32 = 10;

const OPERATIONS: [(Operation, u64); 7] = [
    (Operation::TcpConnect, 40),
    (Operation::TcpCrr, 50),
    (Operation::TcpRr, 40),
    (Operation::UdpFlow, 30),
    (Operation::UdpRr, 40),
    (Operation::UdpRrUnconnected, 40),
    (Operation::TcpBulk, 0),
];

/// Measures vipnat alone, and beside rules of each kind.
pub(super) fn measure(options: &Options, scene: &mut Scene, results: &mut Results) -> Result<()> {
    let modes = [&[Mode::Vipnat][..], &Mode::BESIDE].concat();
    let modes = Modes::new(scene, &modes, VIPS)?;
    for round in 0..=options.rounds() {
        for (operation, milliseconds) in OPERATIONS {
            for (mode, place) in modes.rotated(round) {
                let sample = scene.measure(place, operation, Position::Random, milliseconds)?;
                let row = Row {
                    figure: "beside",
                    what: operation.to_string(),
                    metric: "p50",
                    unit: Unit::Nanoseconds,
                    shape: Shape::one_app(VIPS),
                    position: None,
                };
                if round > 0 {
                    results.add(&row, mode, sample.p50);
                }
            }
        }
    }
    scene.leave()
}
