//! `vipnat flush`.

use std::path::Path;

use anyhow::{Result, bail};

use super::{managed::refuse_if_managed, output::print};
use crate::reconcile::{Flushed, Session};

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this app.
    #[arg(long)]
    app: Option<String>,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    refuse_if_managed(bpffs)?;
    let session = Session::new(bpffs);
    let (done, Flushed { found, warnings }) = match &args.app {
        None => ("removed everything".to_owned(), session.flush()?),
        Some(app) => (format!("- app {app}"), session.flush_app(app)?),
    };
    if let Some(app) = &args.app
        && !found
    {
        bail!("no app {app:?}; `vipnat list` shows those there are");
    }
    print(&(if found { done } else { "nothing to remove".to_owned() } + "\n"))?;
    if warnings.is_empty() {
        return Ok(());
    }
    bail!("{}; all else is removed. Flush again", warnings.join("; "))
}
