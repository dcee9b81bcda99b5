//! Times programs from start to end.

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The time and memory that a program took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Took {
    pub(super) time: Duration,
    /// The time on all CPUs, including the kernel's.
    pub(super) cpu: Duration,
    /// The most memory at one time, in bytes: of the program, or of this process before it.
    pub(super) peak: u64,
}

/// The most memory that a program has at one time, in bytes.
pub(super) fn peak(program: &Command) -> Result<f64> {
    Ok(took(program)?.peak as f64)
}

/// Measures the time and memory of a program.
///
/// The kernel's memory figure includes the process that starts the program, so that process has to be small.
/// It is this program again, as [`print_took`].
pub(super) fn took(program: &Command) -> Result<Took> {
    let me = env::current_exe().context("the path of this program")?;
    let mut command = Command::new(me);
    command.arg("took").arg(program.get_program()).args(program.get_args());
    let output = command.stderr(Stdio::inherit()).output().context("start this program")?;
    ensure!(output.status.success(), "{program:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs a program, and prints the time and memory it took.
pub(crate) fn print_took(program: &[OsString]) -> Result<()> {
    let (program, arguments) = program.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    println!("{}", serde_json::to_string(&run(command, None)?)?);
    Ok(())
}

/// Runs a program to its end, with a file as its input.
pub(super) fn run(mut command: Command, input: Option<&Path>) -> Result<Took> {
    if let Some(path) = input {
        command.stdin(OwnedFd::from(File::open(path)?));
    }
    command.stdout(Stdio::null());
    wait(command)
}

/// Runs a program to its end. Its standard output stays as `command` sets it.
pub(super) fn wait(mut command: Command) -> Result<Took> {
    let begun = Instant::now();
    let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let mut status = 0;
    // SAFETY: all zeroes is a `struct rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to variables of this function. Only this call waits for the child.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let time = begun.elapsed();
    ensure!(waited > 0, "wait: {}", io::Error::last_os_error());
    ensure!(status == 0, "{command:?} ended with status {status:#x}");
    let part = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned())
            + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    let cpu = part(usage.ru_utime) + part(usage.ru_stime);
    Ok(Took { time, cpu, peak: usage.ru_maxrss.cast_unsigned() << 10 })
}

/// The memory that a process has now, in bytes. `process` is its id, or `self`.
pub(crate) fn resident(process: impl Display) -> Result<u64> {
    // Unlike `status`, this file has the exact number.
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.with_context(|| format!("no Rss in {path}"))?.trim().parse()?;
    Ok(kilobytes << 10)
}

/// The CPU time that a process has had so far.
pub(super) fn cpu_time(process: Pid) -> Result<Duration> {
    let mut clock = 0;
    // SAFETY: the pointer is to a variable of this function.
    let error = unsafe { libc::clock_getcpuclockid(process.as_raw(), &raw mut clock) };
    ensure!(error == 0, "the CPU clock of {process}: {}", io::Error::from_raw_os_error(error));
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a variable of this function.
    let read = unsafe { libc::clock_gettime(clock, &raw mut now) };
    ensure!(read == 0, "the CPU time of {process}: {}", io::Error::last_os_error());
    Ok(Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32))
}
