//! `cargo xtask bench`: measures vipnat, iptables, nft and direct connections.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use nix::unistd::Uid;
use xshell::cmd;

use crate::{
    build,
    command::{CmdExt as _, root, shell},
    progress::stage,
    setup,
};

#[derive(Args)]
pub(crate) struct Bench {
    /// A smoke run of two minutes, into target/bench: few VIPs, few rounds.
    #[arg(long)]
    short: bool,
    /// How many rounds to measure (15, or 3 with --short).
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Measure only these figures: connect, traffic, bystanders, beside, hooks, cpus, memory, apply, change,
    /// follow, fleet (or of that: fleet-ending, fleet-patterns, fleet-list, fleet-start, fleet-run,
    /// fleet-rest).
    #[arg(long, num_args = 1.., value_name = "FIGURE")]
    only: Vec<String>,
    /// Also measure this build of vipnat, for comparison: connects, hooks, changes and the fleet.
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// The numbers of VIPs to measure with: N of one app, or APPSxN for loading, changing and following
    /// (1 10 1000 10000 60000 300x3, or 1 10 1000 300x3 with --short).
    #[arg(long, num_args = 1.., value_name = "N|APPSxN")]
    vips: Vec<String>,
    /// Measure only these modes, and direct: empty, vipnat, iptables-legacy, iptables-nft, nft-map,
    /// conntrack.
    #[arg(long, num_args = 1.., value_name = "MODE")]
    modes: Vec<String>,
    /// Where to write results.json, results.md and the plots: docs/benchmarks if all figures are measured,
    /// target/bench otherwise.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        let Self { short, rounds, only, before, vips, modes, output } = self;
        ensure!(
            Uid::effective().is_root(),
            "the benchmarks load BPF programs and make network namespaces, which needs root: \
             `sudo -E env PATH=\"$PATH\" cargo xtask bench`"
        );
        stage("setup");
        setup::run()?;
        stage("build: vipnat and its benchmarks");
        build::release(["vipnat", "vipnat-bench"])?;
        stage("bench");
        let target = build::target_directory()?;
        let all = !short && only.is_empty() && vips.is_empty() && modes.is_empty();
        let output = output.clone().unwrap_or_else(|| {
            if all { root().join("docs/benchmarks") } else { target.join("bench") }
        });
        let sh = shell();
        let (program, short) = (target.join("release/vipnat-bench"), short.then_some("--short"));
        let mut bench = cmd!(sh, "{program} run --output {output} {short...}");
        if let Some(before) = before {
            bench = bench.arg("--before").arg(std::path::absolute(before)?);
        }
        if let Some(rounds) = rounds {
            bench = bench.arg("--rounds").arg(rounds.to_string());
        }
        for (name, values) in [("--only", only), ("--vips", vips), ("--modes", modes)] {
            if !values.is_empty() {
                bench = bench.arg(name).args(values);
            }
        }
        bench.run_visibly()
    }
}
