//! `vipnat flush`.

use std::path::Path;

use anyhow::{Result, bail};

use crate::record::Record;

/// Arguments of `flush`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this app.
    #[arg(long)]
    app: Option<String>,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let datapath = super::datapath(bpffs)?;
    match &args.app {
        None => {
            let found = datapath.flush()?;
            Record::remove(bpffs)?;
            println!("{}", if found { "removed everything" } else { "nothing to remove" });
        }
        Some(app) => {
            if !datapath.flush_app(app)? {
                bail!("no app {app:?}; `vipnat list` shows those there are");
            }
            let mut record = Record::load(bpffs);
            record.forget(app);
            record.save(bpffs)?;
            println!("- app {app}");
        }
    }
    Ok(())
}
