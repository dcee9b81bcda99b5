//! Figure 3: the time to load everything, and the time to make one change.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;
use vipnat_testkit::{NetNs, Vipnat};

use super::{
    input::Input,
    process::{Took, run},
};
use crate::{
    apps::Apps,
    modes::Mode,
    options::Options,
    results::{Results, Row, Unit},
    rules::{self, Table},
    scene::{BACKEND, check_signals, load},
    shape::Shape,
    vips::vip,
};

const APPLY: &str = "apply";

/// Number of services in the table that changes.
const SERVICES: u8 = 100;

/// The program that loads each kind of rules.
const LOADERS: [(Mode, &[&str]); 3] = [
    (Mode::IptablesLegacy, &["iptables-legacy-restore", "-w"]),
    (Mode::IptablesNft, &["iptables-nft-restore"]),
    (Mode::NftMap, &["nft", "-f", "-"]),
];

pub(super) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    let rounds = options.rounds().div_ceil(2);
    for shape in options.shapes(&[1000]) {
        from_nothing(options, shape, rounds, results)?;
    }
    for shape in options.shapes(&[10, 1000]) {
        one_change(options, shape, rounds, results)?;
    }
    Ok(())
}

fn row(what: &str, shape: Shape) -> Row {
    Row {
        figure: APPLY,
        what: what.to_owned(),
        metric: "wall time",
        unit: Unit::Nanoseconds,
        shape,
        position: None,
    }
}

fn from_nothing(
    options: &Options,
    shape: Shape,
    rounds: usize,
    results: &mut Results,
) -> Result<()> {
    let apps = Apps::new(shape)?;
    let services = vec![json!([BACKEND]); shape.services()];
    let table = Table { cgroups: apps.relative(), each: shape.each(), services, last: None };
    let iptables = rules::iptables(shape.each(), BACKEND);
    let map = rules::nft_map(shape.each(), BACKEND);
    // Each of many apps would have rules in a network namespace of its own.
    let loaders = if shape.is_one_app() { &LOADERS[..] } else { &[] };
    for round in 0..=rounds {
        let builds = options.builds();
        let turns = 2 * builds.len() + loaders.len();
        for turn in 0..turns {
            check_signals()?;
            let turn = (round + turn) % turns;
            let (mode, what, took) = match builds.get(turn / 2) {
                Some(build) if turn.is_multiple_of(2) => {
                    (build.mode, "from nothing", fresh_apply(build.vipnat(), &table.json())?)
                }
                Some(build) => {
                    (build.mode, "from nothing, TOML", fresh_apply(build.vipnat(), &table.toml())?)
                }
                None => {
                    let (mode, program) = loaders[turn - 2 * builds.len()];
                    let text = if mode == Mode::NftMap { &map } else { &iptables };
                    let file = Input::new(text)?;
                    let took = run(command(&NetNs::new(), program), Some(file.path()))?;
                    (mode, "from nothing", took.time)
                }
            };
            if round > 0 {
                results.add(&row(what, shape), mode, took.as_nanos() as f64);
            }
        }
    }
    Ok(())
}

fn command(netns: &NetNs, program: &[&str]) -> Command {
    let mut command = netns.command(program[0]);
    command.args(&program[1..]);
    command
}

fn apply(vipnat: &Vipnat, table: &Path) -> Command {
    vipnat.command(["apply".as_ref(), table.as_os_str()])
}

fn fresh_apply(vipnat: Vipnat, text: &str) -> Result<Duration> {
    let table = vipnat.table(text);
    Ok(run(apply(&vipnat, &table), None)?.time)
}

/// Measures a change that moves the last relationship of one app to another service.
///
/// Rules are those of the network namespace of this app, however many others there are.
fn one_change(options: &Options, shape: Shape, rounds: usize, results: &mut Results) -> Result<()> {
    let count = shape.each();
    let table = |apps: &Apps, last| Table {
        cgroups: apps.relative(),
        each: count,
        services: (1..=SERVICES).map(|n| json!([format!("247.0.1.{n}")])).collect(),
        last: Some(last),
    };
    let mut vipnats = Vec::new();
    for build in options.builds() {
        let (vipnat, apps) = (build.vipnat(), Apps::new(shape)?);
        let texts = [0, 1].map(|last| table(&apps, last).json());
        run(apply(&vipnat, &vipnat.table(&texts[1])), None)?;
        vipnats.push((build.mode, vipnat, texts, apps));
    }
    let hosts = LOADERS.map(|(mode, program)| (mode, program, NetNs::new()));
    let iptables = rules::iptables(count, BACKEND);
    let map = rules::nft_map(count, BACKEND);
    for (mode, program, host) in &hosts {
        load(host, program, if *mode == Mode::NftMap { &map } else { &iptables })?;
    }
    let last = vip(count - 1);
    for round in 0..=rounds {
        let mut add = |what: &str, mode, took: Took| {
            if round > 0 {
                results.add(&row(what, shape), mode, took.time.as_nanos() as f64);
            }
        };
        check_signals()?;
        for turn in 0..vipnats.len() {
            let (mode, vipnat, texts, _) = &vipnats[(round + turn) % vipnats.len()];
            let file = vipnat.table(&texts[round % 2]);
            add("one change", *mode, run(apply(vipnat, &file), None)?);
        }
        let backend = format!("247.0.1.{}", 1 + round % 2);
        for (mode, program, host) in &hosts {
            let took = match mode {
                Mode::NftMap => {
                    let change = Input::new(&format!(
                        "delete element ip vipnat vips {{ {last} }}\n\
                         add element ip vipnat vips {{ {last} : {backend} }}\n"
                    ))?;
                    run(command(host, program), Some(change.path()))?
                }
                mode => {
                    let legacy = *mode == Mode::IptablesLegacy;
                    let tool = if legacy { "iptables-legacy" } else { "iptables-nft" };
                    let mut replace = host.command(tool);
                    replace.args(["-w", "-t", "nat", "-R", "OUTPUT", &count.to_string()]);
                    replace.args(["-d", &last.to_string(), "-j", "DNAT"]);
                    run_with(replace, &["--to-destination", &backend])?
                }
            };
            add("one change", *mode, took);
            let again = match mode {
                Mode::NftMap => format!("table ip vipnat\ndelete table ip vipnat\n{map}"),
                _ => iptables.clone(),
            };
            let again = Input::new(&again)?;
            let took = run(command(host, program), Some(again.path()))?;
            add("one change, by loading all again", *mode, took);
        }
    }
    Ok(())
}

fn run_with(mut command: Command, arguments: &[&str]) -> Result<Took> {
    command.args(arguments);
    run(command, None).context("replace a rule")
}
