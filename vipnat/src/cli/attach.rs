//! `vipnat attach`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use vipnat_core::text::shown_name;

use super::{
    inherited::Inherited,
    output::{line, print, warn},
};
use crate::{
    kernel::cgroup::{self, Tree},
    reconcile::{Attached, Session},
};

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app; it must be in the table that was applied last.
    #[arg(long)]
    app: String,
    #[command(flatten)]
    cgroup: Cgroup,
    #[command(flatten)]
    inherited: Inherited,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Cgroup {
    /// The cgroup, below the cgroup v2 mount; an absolute path works too.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The cgroup of the process with this PID.
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
    let (attached, warning) = inherited.apply_to(Session::new(bpffs)).attach(app, &cgroup)?;
    if let Some(warning) = warning {
        warn(&warning);
    }
    let below = shown_name(cgroup.strip_prefix(tree.mount()).unwrap_or(&cgroup));
    print(&line(&match attached {
        Attached::Already => "nothing to change".to_owned(),
        Attached::Now => format!("+ app {app} in cgroup {below}"),
        Attached::TakenFrom(other) => {
            format!("+ app {app} in cgroup {below}, which the table gave to {other}")
        }
    }))
}
