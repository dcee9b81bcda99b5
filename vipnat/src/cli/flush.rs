//! `vipnat flush`.

use std::path::Path;

use anyhow::{Result, bail};

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this app.
    #[arg(long)]
    app: Option<String>,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    super::refuse_if_kept(bpffs)?;
    let datapath = super::datapath(bpffs)?;
    let Some(app) = &args.app else {
        let found = datapath.flush()?;
        return super::print(if found { "removed everything\n" } else { "nothing to remove\n" });
    };
    if !datapath.flush_app(app)? {
        bail!("no app {app:?}; `vipnat list` shows those there are");
    }
    super::print(&format!("- app {app}\n"))
}
