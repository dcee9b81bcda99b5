//! `vipnat flush`.

use crate::cli::output;
use std::path::Path;

use anyhow::{Result, bail};

use crate::reconcile::Flushed;

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this app.
    #[arg(long)]
    app: Option<String>,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    super::refuse_if_kept(bpffs)?;
    let datapath = super::datapath(bpffs);
    let (done, Flushed { found, warnings }) = match &args.app {
        None => ("removed everything".to_owned(), datapath.flush()?),
        Some(app) => (format!("- app {app}"), datapath.flush_app(app)?),
    };
    if let Some(app) = &args.app
        && !found
    {
        bail!("no app {app:?}; `vipnat list` shows those there are");
    }
    output::print(&(if found { done } else { "nothing to remove".to_owned() } + "\n"))?;
    if warnings.is_empty() {
        return Ok(());
    }
    bail!("{}; the data path is removed, and only that is left: flush again", warnings.join("; "))
}
