//! `vipnat import iptables`.

use anyhow::Result;
use vipnat_core::{
    firewall::{self, Import, Remark},
    table::Table,
    text::count,
};

use super::common::Common;
use crate::{
    cli::output::warn_escaped,
    input::{InvalidInput, display_name, read_input},
};

/// Arguments of `import iptables`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Skip rules that a table cannot express, and print each of them.
    #[arg(long)]
    skip_unsupported: bool,
}

/// The largest number of rules and remarks to print; a user cannot mend more at once.
const SHOWN: usize = 20;

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args { common, skip_unsupported } = args;
    let mut app = common.empty_app()?;
    let text = read_input(&common.file)?;
    let name = display_name(&common.file);
    let Import { services, relationships, unsupported, notes } =
        firewall::import(&String::from_utf8_lossy(&text));
    let remark = |remark: &Remark| format!("{name}:{remark}");
    if !unsupported.is_empty() && !skip_unsupported {
        let mut lines: Vec<_> = unsupported.iter().take(SHOWN).map(remark).collect();
        if unsupported.len() > SHOWN {
            lines.push(format!("{name}: and {} more", unsupported.len() - SHOWN));
        }
        lines.push(format!(
            "{name}: a table cannot express {}; use `--skip-unsupported` to leave them out",
            count(unsupported.len(), "rule")
        ));
        return Err(InvalidInput(lines.join("\n")).into());
    }
    for unsupported in unsupported.iter().take(SHOWN) {
        warn_escaped(&format!("skipped: {}", remark(unsupported)));
    }
    if unsupported.len() > SHOWN {
        warn_escaped(&format!("skipped: {} more", count(unsupported.len() - SHOWN, "rule")));
    }
    for note in notes.iter().take(SHOWN) {
        warn_escaped(&remark(note));
    }
    if notes.len() > SHOWN {
        warn_escaped(&format!("{name}: {} more", count(notes.len() - SHOWN, "remark")));
    }
    if relationships.is_empty() {
        return Err(InvalidInput(format!(
            "{name}: no rules for VIPs in the OUTPUT chain of the nat table\n    \
             run iptables-save in the network namespace of the container; there are two kinds, \
             iptables-legacy-save and iptables-nft-save"
        ))
        .into());
    }
    app.relationships = relationships;
    common.print(&Table { services, apps: [(common.app.clone(), app)].into() })
}
