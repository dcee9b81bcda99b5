//! `vipnat exec`.

use std::{
    ffi::OsString,
    fmt, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    datapath::{self, CgroupTree},
    table::Cgroups,
};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let Args { app, table, cgroup, command } = args;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);

    let tree = CgroupTree::find()?;
    let mount = tree.mount();
    let mut of_table = None;
    if let Some(file) = table {
        let table = super::read_table(file)?;
        let app = super::app_of(&table, app, file)?;
        command.env("PLATFORM_RELATIONSHIPS", table.platform_relationships(app));
        of_table.clone_from(&app.cgroup);
    }
    let cgroup = match cgroup {
        Some(path) => own_cgroup(app, mount, &mount.join(path), of_table.as_ref(), bpffs)?,
        None => match of_table.as_ref().and_then(Cgroups::path) {
            Some(path) => mount.join(path),
            None => only_cgroup(app, bpffs)?,
        },
    };
    datapath::enter_cgroup(&tree, &cgroup)?;
    let error = command.exec();
    let hint = match error.kind() {
        io::ErrorKind::ArgumentListTooLong if table.is_some() => {
            " (PLATFORM_RELATIONSHIPS may be too long for an environment)"
        }
        _ => "",
    };
    Err(NotRun { what: format!("cannot run {}{hint}", program.display()), error }.into())
}

/// A cgroup that is named, which must be one of the app's or inside one: elsewhere the command would go
/// without its VIPs, or with another app's.
fn own_cgroup(
    app: &str,
    mount: &Path,
    path: &Path,
    of_table: Option<&Cgroups>,
    bpffs: &Path,
) -> Result<PathBuf> {
    let below = path.strip_prefix(mount);
    if of_table.is_some_and(|cgroups| below.is_ok_and(|below| cgroups.cover(below))) {
        return Ok(path.to_owned());
    }
    let own = super::datapath(bpffs).cgroups_of(app)?;
    if own.iter().any(|own| path.starts_with(own)) {
        return Ok(path.to_owned());
    }
    let own: Vec<_> = own.iter().map(|path| path.display().to_string()).collect();
    bail!(
        "cgroup {} is not app {app:?}'s, which has: {}; attach it first: vipnat attach --app {app} \
         --cgroup {}",
        path.display(),
        if own.is_empty() { "none".to_owned() } else { own.join(", ") },
        path.display()
    )
}

/// The cgroup of an app that was applied.
fn only_cgroup(app: &str, bpffs: &Path) -> Result<PathBuf> {
    let mut cgroups = super::datapath(bpffs).cgroups_of(app)?;
    match (cgroups.pop(), cgroups.as_slice()) {
        (Some(cgroup), []) => Ok(cgroup),
        (Some(one), others) => {
            let all = others.iter().chain([&one]).map(|path| path.display().to_string());
            let all: Vec<_> = all.collect();
            bail!("app {app:?} has several cgroups; choose with --cgroup: {}", all.join(", "))
        }
        (None, _) => {
            bail!(
                "app {app:?} is attached to no living cgroup; start its container, or attach one first"
            )
        }
    }
}

/// A command that could not be run.
#[derive(Debug)]
pub(super) struct NotRun {
    what: String,
    error: io::Error,
}

impl NotRun {
    /// The exit status that shells, env and nsenter give it.
    pub(super) fn status(&self) -> u8 {
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
