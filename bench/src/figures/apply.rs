//! Figure 3: how long it takes to load everything, and to make one change.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;
use vipnat_testkit::{Cgroup, NetNs, TEST_PREFIX, Vipnat};

use super::process::{Took, run};
use crate::{
    modes::Mode,
    options::Options,
    results::{Results, Row, Unit},
    rules::{self, Table},
    scene::{BACKEND, check_signals, load},
    vips::vip,
};

const APPLY: &str = "apply";

/// How many services the table of changes has.
const SERVICES: u8 = 100;

/// How each is loaded.
const LOADERS: [(Mode, &[&str]); 3] = [
    (Mode::IptablesLegacy, &["iptables-legacy-restore", "-w"]),
    (Mode::IptablesNft, &["iptables-nft-restore"]),
    (Mode::NftMap, &["nft", "-f", "-"]),
];

pub(super) fn measure(options: &Options, results: &mut Results) -> Result<()> {
    for count in options.extremes(1000) {
        let rounds = options.rounds().div_ceil(2);
        from_nothing(count, rounds, results)?;
        one_change(count, rounds, results)?;
    }
    Ok(())
}

fn row(what: &str, count: u32) -> Row {
    Row {
        figure: APPLY,
        what: what.to_owned(),
        metric: "wall time",
        unit: Unit::Nanoseconds,
        vips: count,
        position: None,
    }
}

fn from_nothing(count: u32, rounds: usize, results: &mut Results) -> Result<()> {
    let cgroup = Cgroup::new();
    let table = Table::simple(cgroup.relative(), count, BACKEND);
    let iptables = rules::iptables(count, BACKEND);
    let map = rules::nft_map(count, BACKEND);
    for round in 0..=rounds {
        for turn in 0..5 {
            check_signals()?;
            let (mode, what, took) = match (round + turn) % 5 {
                0 => (Mode::Vipnat, "from nothing", fresh_apply(&table.json())?),
                1 => (Mode::Vipnat, "from nothing, TOML", fresh_apply(&table.toml())?),
                other => {
                    let (mode, program) = LOADERS[other - 2];
                    let text = if mode == Mode::NftMap { &map } else { &iptables };
                    let file = Input::new(text)?;
                    let took = run(command(&NetNs::new(), program), Some(&file.0))?;
                    (mode, "from nothing", took.time)
                }
            };
            if round > 0 {
                results.add(&row(what, count), mode, took.as_nanos() as f64);
            }
        }
    }
    Ok(())
}

/// A file that goes when this does; if that is never, the next sweep takes it.
struct Input(PathBuf);

impl Input {
    fn new(text: &str) -> Result<Self> {
        // Other fixtures count from 0.
        let name = format!("{TEST_PREFIX}-{}-{}", process::id(), u32::MAX);
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        let file = path.join("rules");
        fs::write(&file, text)?;
        Ok(Self(file))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

fn command(netns: &NetNs, program: &[&str]) -> Command {
    let mut command = netns.command(program[0]);
    command.args(&program[1..]);
    command
}

fn apply(vipnat: &Vipnat, table: &Path) -> Command {
    vipnat.command(["apply".as_ref(), table.as_os_str()])
}

fn fresh_apply(text: &str) -> Result<Duration> {
    let vipnat = Vipnat::new();
    let table = vipnat.table(text);
    Ok(run(apply(&vipnat, &table), None)?.time)
}

/// The last relationship goes to another service.
fn one_change(count: u32, rounds: usize, results: &mut Results) -> Result<()> {
    let (cgroup, vipnat) = (Cgroup::new(), Vipnat::new());
    let table = |last| Table {
        cgroup: cgroup.relative().to_owned(),
        count,
        services: (1..=SERVICES).map(|n| json!([format!("247.0.1.{n}")])).collect(),
        last: Some(last),
    };
    let texts = [table(0).json(), table(1).json()];
    let hosts = LOADERS.map(|(mode, program)| (mode, program, NetNs::new()));
    let iptables = rules::iptables(count, BACKEND);
    let map = rules::nft_map(count, BACKEND);
    for (mode, program, host) in &hosts {
        load(host, program, if *mode == Mode::NftMap { &map } else { &iptables })?;
    }
    run(apply(&vipnat, &vipnat.table(&texts[1])), None)?;
    let last = vip(count - 1);
    for round in 0..=rounds {
        let mut add = |what: &str, mode, took: Took| {
            if round > 0 {
                results.add(&row(what, count), mode, took.time.as_nanos() as f64);
            }
        };
        check_signals()?;
        let file = vipnat.table(&texts[round % 2]);
        add("one change", Mode::Vipnat, run(apply(&vipnat, &file), None)?);
        let backend = format!("247.0.1.{}", 1 + round % 2);
        for (mode, program, host) in &hosts {
            let took = match mode {
                Mode::NftMap => {
                    let change = Input::new(&format!(
                        "delete element ip vipnat vips {{ {last} }}\n\
                         add element ip vipnat vips {{ {last} : {backend} }}\n"
                    ))?;
                    run(command(host, program), Some(&change.0))?
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
            let took = run(command(host, program), Some(&again.0))?;
            add("one change, by loading all again", *mode, took);
        }
    }
    Ok(())
}

fn run_with(mut command: Command, arguments: &[&str]) -> Result<Took> {
    command.args(arguments);
    run(command, None).context("replace a rule")
}
