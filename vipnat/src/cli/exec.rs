//! `vipnat exec`.

use std::{
    ffi::OsString,
    fmt, fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{datapath, table::Cgroups};

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

    let mount = datapath::cgroup_mount()?;
    let mut named = cgroup.as_ref().map(|path| mount.join(path));
    if let Some(file) = table {
        let table = super::read_table(file)?;
        let app = super::app_of(&table, app, file)?;
        command.env("PLATFORM_RELATIONSHIPS", table.platform_relationships(app));
        let path = app.cgroup.as_ref().and_then(Cgroups::path);
        named = named.or_else(|| Some(mount.join(path?)));
    }
    let cgroup = match named {
        Some(cgroup) => cgroup,
        None => only_cgroup(app, bpffs)?,
    };
    // A process joins by writing "0", which is itself.
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot enter the cgroup {}", cgroup.display()))?;
    let error = command.exec();
    let hint = match error.kind() {
        io::ErrorKind::ArgumentListTooLong if table.is_some() => {
            " (PLATFORM_RELATIONSHIPS may be too long for an environment)"
        }
        _ => "",
    };
    Err(NotRun { what: format!("cannot run {}{hint}", program.display()), error }.into())
}

/// The cgroup of an app that was applied.
fn only_cgroup(app: &str, bpffs: &Path) -> Result<PathBuf> {
    let mut cgroups = super::datapath(bpffs)?.cgroups_of(app)?.unwrap_or_default();
    match (cgroups.pop(), cgroups.as_slice()) {
        (Some(cgroup), []) => Ok(cgroup),
        (Some(one), others) => {
            let all = others.iter().chain([&one]).map(|path| path.display().to_string());
            let all: Vec<_> = all.collect();
            bail!("app {app:?} has several cgroups; choose with --cgroup: {}", all.join(", "))
        }
        (None, _) => {
            bail!("no app {app:?} is attached to a living cgroup; apply a table, or name one here")
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
