//! The arguments of the program, and the verb they choose.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use vipnat_core::{
    table::TableError,
    text::{shown_lines, shown_name},
};

use super::{
    apply, attach, check, env, exec, export, flush, import, list, output::warn_escaped, run, vip,
};
use crate::{
    input::{InvalidInput, with_reasons},
    kernel::process::{ClosedOutput, on_closed_output, tune_malloc},
    state::{name_index, pending_disconnects, run_dir, run_lock, state_path},
};

/// Connects containers to moving services through virtual IPs that never change.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 done, 1 failed, 2 wrong usage or invalid input."
)]
struct Cli {
    /// The directory of the pinned state. Each directory is an instance of its own.
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/vipnat")]
    bpffs: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a table without changing anything.
    Check(check::Args),
    /// Make the kernel match a table, and print the changes. Translation continues after vipnat ends.
    Apply(apply::Args),
    /// Apply a table, then apply each change of its file and of the apps' cgroups.
    Run(run::Args),
    /// Attach an app to one more cgroup, before its container starts.
    Attach(attach::Args),
    /// Show apps, relationships, VIPs, backends and connection counts.
    List(list::Args),
    /// Remove everything, or one app.
    Flush(flush::Args),
    /// Show the VIP of each name.
    Vip(vip::Args),
    /// Print the value of PLATFORM_RELATIONSHIPS for an app.
    Env(env::Args),
    /// Run a command inside an app's cgroup.
    Exec(exec::Args),
    /// Print a table made from PLATFORM_RELATIONSHIPS or iptables rules.
    Import(import::Args),
    /// Print an app's part of a table as rules of iptables or nft.
    Export(export::Args),
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    // `vipnat list | head` ends quietly. Verbs print only after their work is done, so none is lost.
    on_closed_output(ClosedOutput::Ends);
    let Cli { bpffs, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    if !matches!(verb, Verb::Run(_)) {
        tune_malloc();
    }
    let changes = matches!(verb, Verb::Apply(_) | Verb::Run(_) | Verb::Attach(_) | Verb::Flush(_));
    let bpffs = state_directory(bpffs, changes);
    match run_verb(verb, &bpffs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            warn_escaped(&with_reasons(&error));
            exit_status(&error)
        }
    }
}

fn run_verb(verb: Verb, bpffs: &Path) -> Result<()> {
    match verb {
        Verb::Check(args) => check::run(&args),
        Verb::Apply(args) => apply::run(&args, bpffs),
        Verb::Run(args) => run::run(&args, bpffs),
        Verb::Attach(args) => attach::run(&args, bpffs),
        Verb::List(args) => list::run(&args, bpffs),
        Verb::Flush(args) => flush::run(&args, bpffs),
        Verb::Vip(args) => vip::run(&args),
        Verb::Env(args) => env::run(&args),
        Verb::Import(args) => import::run(&args),
        Verb::Exec(args) => exec::run(&args, bpffs),
        Verb::Export(args) => export::run(&args),
    }
}

fn exit_status(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.is::<TableError>() || error.is::<InvalidInput>() {
        2
    } else {
        error.downcast_ref::<exec::NotRun>().map_or(1, exec::NotRun::status)
    })
}

/// Resolves the path of a state directory, so that each command knows it by one name. A command that
/// makes changes also takes over the files that an earlier vipnat kept under the given name.
fn state_directory(given: PathBuf, changes: bool) -> PathBuf {
    match state_path::canonical(&given) {
        Ok(path) => {
            if changes {
                run_dir::adopt(
                    &given,
                    &path,
                    &[name_index::FILE, pending_disconnects::FILE, run_lock::FILE],
                );
            }
            path
        }
        // The verb meets the same error and reports it.
        Err(_) => given,
    }
}

/// Prints the message of clap. It repeats arguments unchanged, so they are escaped first.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help or version. If it cannot be printed, no other place is left to say so.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let printable = Cli::try_parse_from(std::env::args_os().map(shown_name)).err();
    let text = printable.as_ref().unwrap_or(error).render().to_string();
    let _ = io::stderr().write_all(shown_lines(&text).as_bytes());
    ExitCode::from(2)
}
