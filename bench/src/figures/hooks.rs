//! Figure 2: the time in each hook, from the kernel's own statistics.

use anyhow::{Context as _, Result, ensure};
use vipnat_testkit::bpf::{self, Runs};

use crate::{
    modes::Mode,
    options::Options,
    protocol::{Operation, Position},
    results::{Results, Row, Unit},
    scene::{Modes, Scene},
    shape::Shape,
};

const HOOKS: &str = "hooks";

/// Hooks, and the operations that run each of them exactly once.
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

/// Measures with the kernel's statistics on. They add about 20 ns to each measured time.
///
/// Few and many VIPs are set up at the same time, because the report compares them.
pub(super) fn measure(options: &Options, scene: &mut Scene, results: &mut Results) -> Result<()> {
    let mut all = Vec::new();
    for count in options.extremes(10) {
        let mut modes = vec![Mode::Empty, Mode::Vipnat];
        modes.extend(scene.before.is_some().then_some(Mode::Before));
        all.push((count, Modes::new(scene, &modes, count)?));
    }
    let _statistics = bpf::statistics().context("turn statistics on")?;
    for round in 0..=options.rounds() {
        for (hook, operation) in OPERATIONS {
            for (count, modes) in &all {
                let row = Row {
                    figure: HOOKS,
                    what: format!("{hook}: {operation}"),
                    metric: "mean",
                    unit: Unit::Nanoseconds,
                    shape: Shape::one_app(*count),
                    position: Some(Position::Hot),
                };
                for (mode, place) in modes.rotated(round) {
                    let before = runs(scene, modes, mode, hook)?;
                    scene.measure(place, operation, Position::Hot, 15)?;
                    let after = runs(scene, modes, mode, hook)?;
                    let times = after.count - before.count;
                    ensure!(times > 0, "{mode}: {hook} does not run in {operation}");
                    let spent = after.nanoseconds - before.nanoseconds;
                    if round > 0 {
                        results.add(&row, mode, spent as f64 / times as f64);
                    }
                }
            }
        }
    }
    scene.leave()
}

fn runs(scene: &Scene, modes: &Modes, mode: Mode, hook: &str) -> Result<Runs> {
    let own = match mode {
        Mode::Vipnat => modes.vipnat.as_ref(),
        Mode::Before => modes.before.as_ref(),
        _ => None,
    };
    if let Some((vipnat, _)) = own {
        return Ok(Runs::of_pin(&vipnat.bpffs().join("progs").join(hook)));
    }
    let (_, program) =
        scene.empty_programs.iter().find(|(name, _)| *name == hook).context("no such hook")?;
    Ok(program.runs()?)
}
