//! External commands: xshell builds them, and [`CmdExt`] runs them.
//!
//! xshell lacks four features. Its errors do not name the folder and the variables that were set. It can't
//! keep a command's output and show it only after a failure. It can't start a command in the background that
//! ends with this process. And it does not quote a command for a shell.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use xshell::{Cmd, Shell};

/// The number of lines shown of a failed command's output: the last ones.
const TAIL: usize = 25;

/// Debian's directories of administrators' tools, which `su` and `sudo` may leave out of PATH.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A shell in the root of the workspace. It also finds the programs that cargo has installed.
pub(crate) fn shell() -> Shell {
    let sh = Shell::new().expect("cargo has found the current folder too");
    sh.change_dir(root());
    sh.set_var("PATH", search_path([]));
    sh
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The rustc that this cargo uses.
pub(crate) fn rustc() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Ways to run a command.
pub(crate) trait CmdExt {
    /// Runs with this process's output as its own.
    fn run_visibly(self) -> Result<()>;

    /// Runs and hides its output. If it fails, the error has the end of the output.
    fn run_quietly(self) -> Result<()>;

    /// Runs and returns its standard output. If it fails, the error has the end of its standard error.
    fn read_stdout(self) -> Result<String>;

    /// Starts the command, for which the caller waits. It ends with this process.
    fn start(self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child>;
}

impl CmdExt for Cmd<'_> {
    fn run_visibly(self) -> Result<()> {
        let (mut command, line) = prepare(self);
        let status = command.status().with_context(|| format!("{line} can't be started"))?;
        check(&line, status, None)
    }

    fn run_quietly(self) -> Result<()> {
        let (mut command, line) = prepare(self);
        let (status, output) =
            capture(&mut command).with_context(|| format!("{line} can't be started"))?;
        check(&line, status, Some(&output))
    }

    fn read_stdout(self) -> Result<String> {
        let (mut command, line) = prepare(self);
        let output = command.output().with_context(|| format!("{line} can't be started"))?;
        check(&line, output.status, Some(&output.stderr))?;
        String::from_utf8(output.stdout).with_context(|| format!("the output of {line}"))
    }

    fn start(self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        let (mut command, line) = prepare(self);
        // SAFETY: prctl(2) is only a system call, and nothing here allocates.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let started = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        started.with_context(|| format!("{line} can't be started"))
    }
}

/// The command for the standard library, and its name in errors.
fn prepare(cmd: Cmd<'_>) -> (Command, String) {
    let command = Command::from(cmd);
    let mut line = "`".to_owned();
    for (name, value) in command.get_envs() {
        if let Some(value) = value
            && name != "PATH"
        {
            line += &format!("{}={} ", name.display(), quoted(value));
        }
    }
    line += &format!("{}`", words(&command));
    if let Some(folder) = command.get_current_dir().filter(|folder| *folder != root()) {
        line += &format!(" in {}", folder.display());
    }
    (command, line)
}

/// The command, as a shell reads it.
pub(crate) fn shell_words(cmd: Cmd<'_>) -> String {
    words(&Command::from(cmd))
}

fn words(command: &Command) -> String {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    words.join(" ")
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

/// Both output streams in the order in which they were written.
fn capture(command: &mut Command) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (mut reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the other end of the pipe. Reading ends only once that end is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    Ok((child.wait()?, output))
}

fn check(line: &str, status: ExitStatus, output: Option<&[u8]>) -> Result<()> {
    match output {
        _ if status.success() => Ok(()),
        None => bail!("{line} failed ({status})"),
        Some(output) => bail!("{line} failed ({status}); its output ended with\n{}", tail(output)),
    }
}

fn tail(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines: Vec<_> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("    {line}\n")).collect()
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The path of `program`, along the PATH of [`shell`]. An absolute path is returned as it is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path([])).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// PATH with `first` before it, and with folders behind it that PATH may lack.
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

/// The folder of programs that `cargo install` installs. Only rustup adds it to PATH.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    Some(home.join("bin"))
}

#[cfg(test)]
mod tests {
    use xshell::cmd;

    use super::*;

    #[test]
    fn an_error_names_the_command_its_folder_and_its_status() {
        let sh = shell();
        let _folder = sh.push_dir("/");
        let script = "echo out; echo err >&2; exit 3";
        let error = cmd!(sh, "sh -c {script}").env("A", "1").run_quietly().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`A=1 sh -c 'echo out; echo err >&2; exit 3'` in / failed (exit status: 3); its \
             output ended with\n    out\n    err\n"
        );
        let error = cmd!(sh, "no-such-program x").run_visibly().unwrap_err();
        assert!(format!("{error:#}").starts_with("`no-such-program x` in / can't be started: "));
    }

    #[test]
    fn output_is_read_as_it_is() {
        let sh = shell();
        assert_eq!(cmd!(sh, "echo a").read_stdout().unwrap(), "a\n");
    }
}
