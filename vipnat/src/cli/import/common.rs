//! Arguments of every import, and how it prints its table.

use std::path::PathBuf;

use anyhow::Result;
use vipnat_core::table::{App, Table};

use crate::{
    cli::output::print_data,
    input::{InvalidInput, cgroup_mount},
};

/// Arguments of every import.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The file to read; `-` for standard input.
    #[arg(default_value = "-")]
    pub(super) file: PathBuf,
    /// The name of the app in the table.
    #[arg(long, value_name = "NAME")]
    pub(super) app: String,
    /// Its cgroup, below the cgroup v2 mount.
    #[arg(long, value_name = "PATH")]
    cgroup: String,
    /// Print the table as JSON instead of TOML.
    #[arg(long)]
    pub(super) json: bool,
}

impl Common {
    /// The app, without relationships.
    pub(super) fn empty_app(&self) -> Result<App> {
        Ok(App::new(&self.app, &self.cgroup, "the command line", &cgroup_mount())?)
    }

    /// Prints the table in the chosen format.
    pub(super) fn print(&self, table: &Table) -> Result<()> {
        print_data(&if self.json {
            table.to_json()
        } else {
            table.to_toml().map_err(|error| InvalidInput(format!("{error} with `--json`")))?
        })
    }
}
