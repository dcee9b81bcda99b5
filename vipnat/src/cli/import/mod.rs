//! `vipnat import`: tables from what was there before.

mod iptables;
mod platform;

use crate::cli::output;
use crate::follow;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::follow::InvalidInput;
use vipnat_core::table::{App, Table};

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Make a table of a value of PLATFORM_RELATIONSHIPS.
    Platform(platform::Args),
    /// Make a table of the output of iptables-save.
    Iptables(iptables::Args),
}

/// Arguments of every import.
#[derive(Debug, clap::Args)]
struct Common {
    /// What to read; `-` for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The name of the app in the table.
    #[arg(long, value_name = "NAME")]
    app: String,
    /// Its cgroup, below the cgroup v2 mount.
    #[arg(long, value_name = "PATH")]
    cgroup: String,
    /// The table as JSON instead of TOML.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.from {
        From::Platform(args) => platform::run(args),
        From::Iptables(args) => iptables::run(args),
    }
}

impl Common {
    /// The app, without relationships.
    fn empty_app(&self) -> Result<App> {
        let mount = follow::cgroup_mount();
        Ok(App::new(&self.app, &self.cgroup, "the command line", &mount)?)
    }

    fn print(&self, table: &Table) -> Result<()> {
        output::print_data(&if self.json {
            table.to_json()
        } else {
            table.to_toml().map_err(|error| InvalidInput(format!("{error} with `--json`")))?
        })
    }
}
