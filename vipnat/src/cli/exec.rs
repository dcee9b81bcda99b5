//! `vipnat exec`.

use std::{
    ffi::OsString,
    fmt, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use vipnat_core::{table::Cgroups, text::shown_name};

use super::{
    output::warn,
    table::{app_of, read_table},
};
use crate::{
    kernel::cgroup::{self, Tree},
    reconcile::{LiveCgroups, Session},
};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app.
    #[arg(long)]
    app: String,
    /// Take the cgroup from this table instead of from what was applied, and set
    /// PLATFORM_RELATIONSHIPS.
    table: Option<PathBuf>,
    /// The cgroup to run in, if the app has several.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { app, table, cgroup, command } = args;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);

    let tree = Tree::find()?;
    let mount = tree.mount();
    let mut of_table = None;
    if let Some(file) = table {
        let table = read_table(file)?;
        let app = app_of(&table, app, file)?;
        command.env("PLATFORM_RELATIONSHIPS", table.platform_relationships(app));
        of_table.clone_from(&app.cgroup);
    }
    let named = cgroup.clone().or_else(|| of_table.as_ref().and_then(Cgroups::path));
    let cgroup = match named {
        Some(path) => own_cgroup(app, &tree, &mount.join(path), of_table.as_ref(), bpffs)?,
        None => only_cgroup(app, bpffs)?,
    };
    cgroup::enter(&tree, &cgroup)?;
    let error = command.exec();
    let hint = match error.kind() {
        io::ErrorKind::ArgumentListTooLong if table.is_some() => {
            " (PLATFORM_RELATIONSHIPS may be too long for an environment)"
        }
        _ => "",
    };
    Err(NotRun { what: format!("cannot run {}{hint}", shown_name(program)), error }.into())
}

/// Checks that a named cgroup is one of the app's, or inside one. In another cgroup the command would have
/// no VIPs, or those of another app. If only the table gives the cgroup to the app, a warning is enough.
fn own_cgroup(
    app: &str,
    tree: &Tree,
    path: &Path,
    of_table: Option<&Cgroups>,
    bpffs: &Path,
) -> Result<PathBuf> {
    let session = Session::new(bpffs);
    let below = path.strip_prefix(tree.mount());
    let of_table = of_table.is_some_and(|cgroups| below.is_ok_and(|below| cgroups.cover(below)));
    let shown = shown_name(path);
    match session.app_at(path) {
        Ok(Some(holder)) if holder == app => {}
        Ok(Some(holder)) => {
            if !of_table {
                // An unknown app is the better error.
                session.cgroups_of(app)?;
            }
            bail!(
                "cgroup {shown} is not app {app:?}'s; it belongs to app {holder:?}, whose VIPs a command in it \
                 has. Name another cgroup with --cgroup, or apply a table that gives it to app {app:?}"
            )
        }
        Ok(None) if of_table => warn(&format!(
            "app {app:?} is not translated in cgroup {shown}: its VIPs do not work there until the \
             table is applied"
        )),
        Err(error) if of_table => warn(&format!(
            "cannot tell whether app {app:?} is translated in cgroup {shown}: {:#}",
            anyhow::Error::from(error)
        )),
        Ok(None) => {
            let LiveCgroups { paths: own, unseen } = session.cgroups_of(app)?;
            let mut own: Vec<_> = own.iter().map(shown_name).collect();
            own.extend(unseen.map(|reason| format!("some that are not in view ({reason})")));
            bail!(
                "cgroup {shown} is not app {app:?}'s, which has: {}; attach it first: vipnat attach \
                 --app {app} --cgroup {shown}",
                if own.is_empty() { "none".to_owned() } else { own.join(", ") },
            )
        }
        Err(error) => return Err(error.into()),
    }
    Ok(path.to_owned())
}

/// Finds the one cgroup of an app that was applied.
fn only_cgroup(app: &str, bpffs: &Path) -> Result<PathBuf> {
    let LiveCgroups { mut paths, unseen } = Session::new(bpffs).cgroups_of(app)?;
    if let Some(reason) = unseen {
        bail!(
            "app {app:?} is attached to cgroups that are not in view: {reason}; run this where they \
             are, or choose another one with --cgroup"
        )
    }
    match (paths.pop(), paths.as_slice()) {
        (Some(cgroup), []) => Ok(cgroup),
        (Some(one), others) => {
            let all: Vec<_> = others.iter().chain([&one]).map(shown_name).collect();
            bail!("app {app:?} has several cgroups; choose with --cgroup: {}", all.join(", "))
        }
        (None, _) => {
            bail!(
                "app {app:?} is attached to no living cgroup; start its container, or attach one first"
            )
        }
    }
}

/// The command could not be run.
#[derive(Debug)]
pub(crate) struct NotRun {
    what: String,
    error: io::Error,
}

impl NotRun {
    /// The exit status that shells, env and nsenter use for it.
    pub(crate) fn status(&self) -> u8 {
        if self.error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for NotRun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
