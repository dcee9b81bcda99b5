//! Programs, timed from start to end.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// What a program took.
pub(super) struct Took {
    pub(super) time: Duration,
    /// The most memory that it, or this process before, had at a time, in bytes.
    peak: u64,
}

/// The most memory a program has at a time, in bytes. What the kernel tells includes the process that
/// starts it, so that has to be a small one: this program again, as [`print_peak`].
pub(super) fn peak(program: &Command) -> Result<f64> {
    let me = env::current_exe().context("the path of this program")?;
    let mut command = Command::new(me);
    command.arg("peak").arg(program.get_program()).args(program.get_args());
    let output = command.stderr(Stdio::inherit()).output().context("start this program")?;
    ensure!(output.status.success(), "{program:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Runs a program, and prints the most memory it had at a time.
pub(crate) fn print_peak(program: &[OsString]) -> Result<()> {
    let (program, arguments) = program.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    println!("{}", run(command, None)?.peak);
    Ok(())
}

/// Runs a program to its end, with a file as its input.
pub(super) fn run(mut command: Command, input: Option<&Path>) -> Result<Took> {
    if let Some(path) = input {
        command.stdin(OwnedFd::from(File::open(path)?));
    }
    command.stdout(Stdio::null());
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let mut status = 0;
    // SAFETY: all zeroes is a `struct rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to what lives here. The child is waited for here alone.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let time = begun.elapsed();
    ensure!(waited > 0, "wait: {}", io::Error::last_os_error());
    ensure!(status == 0, "{command:?} ended with status {status:#x}");
    Ok(Took { time, peak: usage.ru_maxrss.cast_unsigned() << 10 })
}
