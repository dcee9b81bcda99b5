//! Benchmarks of vipnat, iptables, nft and direct connections: the program behind `cargo xtask bench`.

mod apps;
mod changes;
mod client;
mod containers;
mod figures;
mod machine;
mod modes;
mod options;
mod protocol;
mod random;
mod report;
mod results;
mod rules;
mod scene;
mod server;
mod shape;
mod stats;
mod vips;

use std::{ffi::OsString, fs, net::Ipv4Addr, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Measures vipnat; `cargo xtask bench` builds and runs it.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and writes the report.
    Run(options::Options),
    /// Changes a table many times, for the driver.
    #[command(hide = true)]
    Changes(changes::Changes),
    /// The client, for the driver.
    #[command(hide = true)]
    Client { cpu: usize },
    /// A process with sockets in each of many cgroups, for the driver.
    #[command(hide = true)]
    Containers(containers::Containers),
    /// Writes the tables and plots of a report again, from the results.json in its directory.
    Report { directory: PathBuf },
    /// Prints the time and memory that a program took, for the driver.
    #[command(hide = true)]
    Took {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// The server, for the driver.
    #[command(hide = true)]
    Server { ip: Ipv4Addr },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => figures::run(&options),
        Command::Changes(changes) => changes.run(),
        Command::Client { cpu } => client::run(cpu),
        Command::Containers(containers) => containers.run(),
        Command::Report { directory } => report::rewrite(&directory),
        Command::Took { program } => figures::print_took(&program),
        Command::Server { ip } => server::run(ip),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vipnat-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number of CPUs.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Keeps the calling thread on a CPU.
fn pin(cpu: usize) -> std::io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// Keeps all threads of this process on a CPU.
fn pin_process(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    for thread in fs::read_dir("/proc/self/task").context("list threads")? {
        let name = thread?.file_name();
        let id = name.to_str().context("a thread's number")?.parse()?;
        sched_setaffinity(Pid::from_raw(id), &cpus)?;
    }
    Ok(())
}
