//! `vipnat import iptables`.

use anyhow::Result;

use crate::cli::import::Common;
use crate::{
    cli::output::complain,
    follow::{InvalidInput, display_name, read_input},
};
use vipnat_core::text::count;
use vipnat_core::{
    firewall::{self, Import, Remark},
    table::Table,
};

/// Arguments of `import iptables`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Leave out what a table can't say, and tell what it is.
    #[arg(long)]
    skip_unsupported: bool,
}

/// How many rules and remarks are shown; nobody mends more at once.
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
            "{name}: {} can't be said in a table; `--skip-unsupported` leaves them out",
            count(unsupported.len(), "rule")
        ));
        return Err(InvalidInput(lines.join("\n")).into());
    }
    for unsupported in unsupported.iter().take(SHOWN) {
        complain(&format!("skipped: {}", remark(unsupported)));
    }
    if unsupported.len() > SHOWN {
        complain(&format!("skipped: {} more", count(unsupported.len() - SHOWN, "rule")));
    }
    for note in notes.iter().take(SHOWN) {
        complain(&remark(note));
    }
    if notes.len() > SHOWN {
        complain(&format!("{name}: {} more", count(notes.len() - SHOWN, "remark")));
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
