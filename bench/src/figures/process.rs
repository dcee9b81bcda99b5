//! Programs, timed from start to end.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// What a program took.
pub(super) struct Took {
    pub(super) time: Duration,
    /// The most memory it had at a time, in bytes.
    pub(super) peak: u64,
}

/// Runs a program to its end, with a file as its input.
pub(super) fn run(mut command: Command, input: Option<&Path>) -> Result<Took> {
    if let Some(path) = input {
        command.stdin(OwnedFd::from(File::open(path)?));
    }
    command.stdout(std::process::Stdio::null());
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
