//! External commands: each runs through [`Cmd`], which shows the command line of what failed.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};

/// How many of the last lines of a failed command's output are shown.
const TAIL: usize = 25;

/// Where Debian keeps administrators' tools, which `su` and `sudo` may leave out of PATH.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A command to be run, from the root of the workspace unless told otherwise.
pub(crate) struct Cmd(Command);

impl Cmd {
    /// `program`, found along PATH or in the folder where cargo installs.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root()).env("PATH", search_path([]));
        Self(command)
    }

    /// The cargo that runs this task.
    pub(crate) fn cargo(subcommand: &str) -> Self {
        Self::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).arg(subcommand)
    }

    /// The rustc that this cargo uses.
    pub(crate) fn rustc() -> Self {
        Self::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Runs in `folder`, relative to the root of the workspace.
    pub(crate) fn folder(mut self, folder: &str) -> Self {
        self.0.current_dir(root().join(folder));
        self
    }

    /// Runs with this process's output as its own.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.0.status().with_context(|| format!("`{self}` can't be started"))?;
        if !status.success() {
            bail!("`{self}` failed ({status})");
        }
        Ok(())
    }

    /// Runs without a sound, unless it fails: then the error has the end of its output.
    pub(crate) fn run_quietly(mut self) -> Result<()> {
        let (status, output) =
            self.capture().with_context(|| format!("`{self}` can't be started"))?;
        if !status.success() {
            bail!("`{self}` failed ({status}); its output ended with\n{}", tail(&output));
        }
        Ok(())
    }

    /// Runs and gives back what it wrote to its standard output.
    pub(crate) fn read(mut self) -> Result<String> {
        let output = self.0.output().with_context(|| format!("`{self}` can't be started"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{self}` failed ({}); its output ended with\n{}", output.status, tail(&stderr));
        }
        String::from_utf8(output.stdout).with_context(|| format!("the output of `{self}`"))
    }

    /// Starts it, to be waited for by the caller; it ends with this process.
    pub(crate) fn spawn(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        // SAFETY: prctl(2) is only a system call, and nothing here allocates.
        unsafe { self.0.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let spawned = self.0.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        spawned.with_context(|| format!("`{self}` can't be started"))
    }

    /// Both output streams in the order in which they were written.
    fn capture(&mut self) -> io::Result<(ExitStatus, String)> {
        let (mut reader, writer) = io::pipe()?;
        self.0.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut child = self.0.spawn()?;
        // The command holds the pipe's other end, without whose closing there is no end of file.
        self.0.stdout(Stdio::null()).stderr(Stdio::null());
        let mut output = Vec::new();
        reader.read_to_end(&mut output)?;
        Ok((child.wait()?, String::from_utf8_lossy(&output).into_owned()))
    }
}

/// What a person would type to run it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0.get_envs() {
            if let Some(value) = value
                && name != "PATH"
            {
                write!(f, "{}={} ", name.display(), quoted(value))?;
            }
        }
        write!(f, "{}", quoted(self.0.get_program()))?;
        self.0.get_args().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where `program` is, along the PATH that [`Cmd`] gives its commands; an absolute path is itself.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path([])).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// PATH with `first` before it, and behind it the folders that may be missing from it.
pub(crate) fn search_path<'a>(first: impl IntoIterator<Item = &'a str>) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<_> =
        first.into_iter().map(PathBuf::from).chain(env::split_paths(&path)).collect();
    for dir in cargo_bin().into_iter().chain(SYSTEM_DIRS.map(PathBuf::from)) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    env::join_paths(dirs).expect("parts of PATH have no colon")
}

/// The folder that `cargo install` fills, which only rustup puts into PATH.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    Some(home.join("bin"))
}

fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("    {line}\n")).collect()
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
