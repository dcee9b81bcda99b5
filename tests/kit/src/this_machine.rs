//! The speed of this machine, and the reports of tests that can't run on it.

use std::{
    env,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use crate::vm::{EMULATED, LEFT_OUT, NOT_RUN};

/// Reports that the running test does nothing, and why. `cargo xtask vm` shows this beside the passed and
/// failed tests.
pub fn not_run(why: &str) {
    not_run_as(&running(), why);
}

/// The same for a named part of a test.
pub fn not_run_as(name: &str, why: &str) {
    say(&format!("{NOT_RUN}{name}: {why}"));
}

/// Reports which part the running test leaves out, and why.
pub fn left_out(why: &str) {
    say(&format!("{LEFT_OUT}{}: {why}", running()));
}

/// The name of the running test: libtest names threads after tests.
fn running() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Writes to standard error. libtest does not capture this, unlike the output of `eprintln!`.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Whether this machine is emulated, which makes it many times slower than others.
pub fn emulated() -> bool {
    env::var_os(EMULATED).is_some()
}

/// Time limit for an event that takes at most `usually` on other machines.
pub fn patient(usually: Duration) -> Duration {
    if emulated() { usually * 6 } else { usually }
}
