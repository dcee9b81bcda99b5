//! What tests make of the machine that they are on: how slow it is, and what they can't do there.

use std::{
    env,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use crate::vm::EMULATED;

/// Says that the running test, or a part of it, is not run, and why. `cargo xtask vm` shows that beside
/// what passed and failed.
pub fn not_run(why: &str) {
    // libtest names threads after tests.
    not_run_as(thread::current().name().unwrap_or("a test"), why);
}

/// The same, by another name than the test's.
pub fn not_run_as(name: &str, why: &str) {
    // Not captured, unlike eprintln!.
    let _ = writeln!(io::stderr(), "NOT RUN: {name}: {why}");
}

/// Whether this machine is emulated, and so many times slower than others.
pub fn emulated() -> bool {
    env::var_os(EMULATED).is_some()
}

/// How long to wait for what takes `usually` at most on other machines.
pub fn patient(usually: Duration) -> Duration {
    if emulated() { usually * 6 } else { usually }
}
