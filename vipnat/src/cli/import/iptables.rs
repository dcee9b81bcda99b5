//! `vipnat import iptables`.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{InvalidInput, complain, count, name_of, parse_table, print, read_input},
    rules::{self, Import, Remark},
};

/// Arguments of `import iptables`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The output of iptables-save in the container's network namespace; `-` for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The app that the rules become.
    #[arg(long)]
    app: String,
    /// The app's cgroup.
    #[arg(long, value_name = "PATH")]
    cgroup: String,
    /// Leave out what a table can't say, and tell what it is.
    #[arg(long)]
    skip_unsupported: bool,
    /// As JSON instead of TOML.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let Args { file, app, cgroup, skip_unsupported, json: as_json } = args;
    let name = name_of(file);
    // The table that is printed, as yet without its relationships: checks the other arguments.
    let empty = json!({ "apps": { app: { "cgroup": cgroup } } }).to_string();
    let mut table = parse_table(empty.as_bytes(), "--app and --cgroup")?;

    let text = read_input(file, "the rules")?;
    let Import { services, relationships, unsupported, notes } =
        rules::import(&String::from_utf8_lossy(&text));
    let remark = |remark: &Remark| format!("{name}:{remark}");
    if !unsupported.is_empty() && !skip_unsupported {
        let mut lines: Vec<_> = unsupported.iter().map(remark).collect();
        lines.push(format!(
            "{name}: {} can't be said in a table; `--skip-unsupported` leaves them out",
            count(unsupported.len(), "rule")
        ));
        return Err(InvalidInput(lines.join("\n")).into());
    }
    for unsupported in &unsupported {
        complain(&format!("skipped: {}", remark(unsupported)));
    }
    for note in &notes {
        complain(&remark(note));
    }
    if relationships.is_empty() {
        return Err(InvalidInput(format!(
            "{name}: no rules for VIPs in the OUTPUT chain of the nat table\n    \
             run iptables-save in the network namespace of the container; there are two kinds, \
             iptables-legacy-save and iptables-nft-save"
        ))
        .into());
    }
    table.services = services;
    for app in table.apps.values_mut() {
        app.relationships.clone_from(&relationships);
    }
    print(&if *as_json { table.to_json() } else { table.to_toml()? })
}
