//! The development tasks of vipnat: `cargo xtask setup`, `build`, `test`, `lint`,
//! `conformance`, `soak`, `bench`, `vm` and `demo`.

mod bench;
mod build;
mod command;
mod conformance;
mod demo;
mod lint;
mod progress;
mod setup;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development tasks of vipnat.
///
/// Each task first installs what it needs and this machine lacks, as `setup` does.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what building and testing need: Debian packages, rust-src and bpf-linker.
    ///
    /// Made for Debian 12 with Rust and a C linker. Does nothing when everything is there.
    Setup,
    /// Builds the vipnat binary, the BPF object inside it, and the test programs.
    Build {
        /// With optimisations, into target/release.
        #[arg(long)]
        release: bool,
    },
    /// Runs all tests; needs root, because BPF programs and network namespaces do.
    Test {
        /// Run only tests whose name contains one of these; also options of the test harness,
        /// such as --nocapture.
        #[arg(value_name = "FILTER", trailing_var_arg = true, allow_hyphen_values = true)]
        filters: Vec<String>,
    },
    /// Checks formatting, structure, lints (for the BPF target too) and documentation; a warning is
    /// an error.
    Lint(lint::Lint),
    /// Runs one workload behind iptables and behind vipnat, and compares the results; needs root.
    Conformance(conformance::Conformance),
    /// Changes tables, connects, and kills `vipnat run`, all the time; needs root.
    Soak(soak::Soak),
    /// Runs the integration tests in virtual machines, kernel by kernel; needs root.
    Vm(vm::Vm),
    /// Measures vipnat, iptables, nft and direct connections; needs root.
    Bench(bench::Bench),
    /// Shows vipnat at work on hosts made of network namespaces; needs root.
    Demo,
}

fn main() -> ExitCode {
    match Cli::parse().task.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn run(self) -> Result<()> {
        match self {
            Self::Setup => setup::run().map(drop),
            Self::Build { release } => build::run(release),
            Self::Test { filters } => test::run(&filters),
            Self::Lint(lint) => lint.run(),
            Self::Conformance(conformance) => conformance.run(),
            Self::Soak(soak) => soak.run(),
            Self::Vm(vm) => vm.run(),
            Self::Bench(bench) => bench.run(),
            Self::Demo => {
                setup::run()?;
                build::vipnat()?;
                demo::run()
            }
        }
    }
}
