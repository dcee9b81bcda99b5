//! The command line: one file a verb.

mod apply;
mod attach;
mod check;
mod env;
mod exec;
mod export;
mod flush;
mod import;
mod list;
mod output;
mod run;
mod vip;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use vipnat_core::{
    table::{App, Table, TableError},
    text::{quoted, shown_key, shown_lines, shown_name},
};

use self::output::{complain, warn};
use crate::{
    follow::{InvalidInput, display_name, exposed, parse_table, with_reasons},
    kernel::process::{ClosedOutput, on_closed_output, tune_malloc},
    reconcile::Session,
    state::{name_index, pending_disconnects, run_dir, run_lock, run_lock::RunLock, state_path},
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
    /// Where the pinned state lives; several instances can live side by side.
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/vipnat")]
    bpffs: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a table, and touch nothing.
    Check(check::Args),
    /// Make the kernel match a table and print what changed; translation goes on by itself.
    Apply(apply::Args),
    /// Apply a table, and follow it: changes of the file, and containers that come and go.
    Run(run::Args),
    /// Attach an app to one more cgroup, before the container in it starts.
    Attach(attach::Args),
    /// Show apps, relationships, VIPs, backends and connection counts.
    List(list::Args),
    /// Remove everything, or one app.
    Flush(flush::Args),
    /// Show the VIPs of names.
    Vip(vip::Args),
    /// Print the value of PLATFORM_RELATIONSHIPS for an app.
    Env(env::Args),
    /// Run a command inside an app's cgroup.
    Exec(exec::Args),
    /// Print a table made of what was there before.
    Import(import::Args),
    /// Print what a table means for an app as rules of iptables or nft.
    Export(export::Args),
}

/// What commands that attach do about programs of others.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Inherited {
    /// Attach also where that switches off a program of another tool, which the cgroup inherits from one
    /// above it (attached with BPF_F_ALLOW_OVERRIDE). Without this, such an app is refused.
    #[arg(long)]
    override_inherited: bool,
}

impl Inherited {
    fn apply_to(self, datapath: Session) -> Session {
        datapath.override_inherited(self.override_inherited)
    }
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    // So that `vipnat list | head` ends quietly. Nothing is printed before the work is done, down to
    // the record of names.
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
    let result = match verb {
        Verb::Check(args) => check::run(&args),
        Verb::Apply(args) => apply::run(&args, &bpffs),
        Verb::Run(args) => run::run(&args, &bpffs),
        Verb::Attach(args) => attach::run(&args, &bpffs),
        Verb::List(args) => list::run(&args, &bpffs),
        Verb::Flush(args) => flush::run(&args, &bpffs),
        Verb::Vip(args) => vip::run(&args),
        Verb::Env(args) => env::run(&args),
        Verb::Import(args) => import::run(&args),
        Verb::Exec(args) => exec::run(&args, &bpffs),
        Verb::Export(args) => export::run(&args),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    complain(&with_reasons(&error));
    ExitCode::from(if error.is::<TableError>() || error.is::<InvalidInput>() {
        2
    } else {
        error.downcast_ref::<exec::NotRun>().map_or(1, exec::NotRun::status)
    })
}

/// The one name of a state directory, by which other commands know it as well, whatever path they are
/// given. What an earlier vipnat kept under another name is taken over by commands that change anything.
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
        // Whatever is wrong with it, the command finds out, and says so.
        Err(_) => given,
    }
}

/// Prints what clap has to say. It repeats arguments as they are, so those are made printable first.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help or version. As in `print`: if nobody reads it, there is nobody to tell.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let printable = Cli::try_parse_from(std::env::args_os().map(shown_name)).err();
    let text = printable.as_ref().unwrap_or(error).render().to_string();
    let _ = io::stderr().write_all(shown_lines(&text).as_bytes());
    ExitCode::from(2)
}

/// For commands whose work goes on when nobody reads what they print.
fn survive_closed_output() {
    on_closed_output(ClosedOutput::Fails);
}

/// The data path of a state directory.
fn datapath(bpffs: &Path) -> Session {
    Session::new(bpffs)
}

/// Which `vipnat run` keeps this state.
fn holder(bpffs: &Path) -> Result<Option<String>> {
    RunLock::holder(bpffs).with_context(|| {
        let state = bpffs.display();
        format!("cannot tell whether a `vipnat run` manages {state}, which would undo this")
    })
}

/// Refuses to work against a `vipnat run` that keeps the same state.
fn refuse_if_kept(bpffs: &Path) -> Result<()> {
    match holder(bpffs)? {
        None => Ok(()),
        Some(who) => bail!(
            "{} is kept by `vipnat run` ({who}), which would undo this; change what it follows, or \
             stop it first",
            bpffs.display()
        ),
    }
}

/// Reads and checks a table; `-` is standard input. Says if others can read its passwords.
fn read_table(path: &Path) -> Result<Table> {
    let table = parse_table(path)?;
    if let Some(exposed) = exposed(path, &table) {
        warn(&exposed);
    }
    Ok(table)
}

/// An app of a table, or an error that names those there are.
fn app_of<'a>(table: &'a Table, name: &str, file: &Path) -> Result<&'a App> {
    table.apps.get(name).ok_or_else(|| {
        let known: Vec<_> = table.apps.keys().map(|name| shown_key(name)).collect();
        let known = known.join(", ");
        InvalidInput(format!("{}: no app {}; it has: {known}", display_name(file), quoted(name)))
            .into()
    })
}
