//! `vipnat attach`.

use crate::cli::output;
use crate::kernel::cgroup;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::apply::line;
use crate::{kernel::cgroup::Tree, reconcile::Attached};
use vipnat_core::text::shown_name;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app, of the table that was applied last.
    #[arg(long)]
    app: String,
    #[command(flatten)]
    cgroup: Cgroup,
    #[command(flatten)]
    inherited: super::Inherited,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Cgroup {
    /// The cgroup, below the cgroup v2 mount; an absolute path works too.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The cgroup that this process is in.
    #[arg(long)]
    pid: Option<u32>,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { app, cgroup: Cgroup { cgroup, pid }, inherited } = args;
    let tree = Tree::find()?;
    let cgroup = match pid {
        Some(pid) => cgroup::of_process(&tree, *pid)?,
        None => tree.mount().join(cgroup.as_deref().unwrap_or(Path::new(""))),
    };
    let (attached, warning) = inherited.apply_to(super::datapath(bpffs)).attach(app, &cgroup)?;
    if let Some(warning) = warning {
        output::warn(&warning);
    }
    let below = shown_name(cgroup.strip_prefix(tree.mount()).unwrap_or(&cgroup));
    output::print(&line(&match attached {
        Attached::Already => "nothing to change".to_owned(),
        Attached::Now => format!("+ app {app} in cgroup {below}"),
        Attached::TakenFrom(other) => {
            format!("+ app {app} in cgroup {below}, which the table gave to {other}")
        }
    }))
}
