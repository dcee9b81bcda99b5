//! The first process of a virtual machine of `cargo xtask vm`.
//!
//! It turns a bare kernel into a machine that tests can use. It then runs the steps of the job, reports their
//! events, and switches the machine off.

mod machine;
mod steps;

use std::{env, fs, process};

use anyhow::{Context as _, Result, ensure};
use nix::sys::reboot::{RebootMode, reboot};
use vipnat_testkit::vm::{JOB, Job};

fn main() -> Result<()> {
    ensure!(process::id() == 1, "this is the first process of a virtual machine, and nothing else");
    if let Err(error) = run() {
        println!("vipnat-vm: {error:#}");
    }
    // The host has read the serial line already. Nothing else has to be kept.
    reboot(RebootMode::RB_POWER_OFF)?;
    Ok(())
}

fn run() -> Result<()> {
    machine::mount_all()?;
    let job = job()?;
    machine::set_up(&job)?;
    steps::run(&job)
}

/// Reads the job that the kernel's command line names.
fn job() -> Result<Job> {
    let line = fs::read_to_string("/proc/cmdline").context("reading /proc/cmdline")?;
    let path = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(JOB));
    let path = path.with_context(|| format!("no {JOB} on the kernel's command line"))?;
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let job: Job = serde_json::from_str(&text).with_context(|| format!("reading {path}"))?;
    for (name, value) in &job.environment {
        // SAFETY: this process has no other threads yet.
        unsafe { env::set_var(name, value) };
    }
    Ok(job)
}
