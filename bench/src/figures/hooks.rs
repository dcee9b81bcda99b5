//! Figure 2: the time in each hook, by the kernel's own statistics.

use anyhow::{Context as _, Result, ensure};
use vipnat_tests::{
    Vipnat,
    bpf::{self, Runs},
};

use crate::{
    modes::Mode,
    options::Options,
    protocol::{Operation, Position},
    results::{Results, Row, Unit},
    scene::{Modes, Scene},
};

const HOOKS: &str = "hooks";

/// What runs a hook, once each time.
const OPERATIONS: [(&str, Operation); 8] = [
    ("connect4", Operation::UdpReconnect),
    ("connect4", Operation::UdpFresh),
    ("connect4", Operation::UdpFreshElsewhere),
    ("connect4", Operation::UdpFreshNoVip),
    ("connect4", Operation::TcpConnect),
    ("sendmsg4", Operation::UdpSendto),
    ("recvmsg4", Operation::UdpRrUnconnected),
    ("getpeername4", Operation::Getpeername),
];

/// With statistics on, which take about 20 ns of what they measure.
pub(super) fn measure(
    options: &Options,
    scene: &mut Scene,
    modes: &Modes,
    count: u32,
    results: &mut Results,
) -> Result<()> {
    let Some((vipnat, _)) = &modes.vipnat else { return Ok(()) };
    let _statistics = bpf::statistics().context("turn statistics on")?;
    for round in 0..=options.rounds() {
        for (hook, operation) in OPERATIONS {
            for (mode, place) in modes.rotated(round) {
                if !matches!(mode, Mode::Empty | Mode::Vipnat) {
                    continue;
                }
                let before = runs(scene, vipnat, mode, hook)?;
                scene.measure(place, operation, Position::Hot, 15)?;
                let after = runs(scene, vipnat, mode, hook)?;
                let times = after.count - before.count;
                ensure!(times > 0, "{mode}: {hook} does not run in {operation}");
                let row = Row {
                    figure: HOOKS,
                    what: format!("{hook}: {operation}"),
                    metric: "mean",
                    unit: Unit::Nanoseconds,
                    vips: count,
                    position: Some(Position::Hot),
                };
                if round > 0 {
                    let spent = after.nanoseconds - before.nanoseconds;
                    results.add(&row, mode, spent as f64 / times as f64);
                }
            }
        }
    }
    Ok(())
}

fn runs(scene: &Scene, vipnat: &Vipnat, mode: Mode, hook: &str) -> Result<Runs> {
    if mode == Mode::Vipnat {
        return Ok(Runs::of_pin(&vipnat.bpffs().join("progs").join(hook)));
    }
    let (_, program) =
        scene.empty_programs.iter().find(|(name, _)| *name == hook).context("no such hook")?;
    Ok(program.runs()?)
}
