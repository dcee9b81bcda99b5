//! How slow this machine is, and how tests report what they can't do on it.

use std::{
    env,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use crate::vm::{EMULATED, LEFT_OUT, NOT_RUN};

/// Says that the running test does nothing, and why. `cargo xtask vm` shows that beside what passed and
/// failed.
pub fn not_run(why: &str) {
    not_run_as(&running(), why);
}

/// The same of something that is a part of a test and has a name.
pub fn not_run_as(name: &str, why: &str) {
    say(&format!("{NOT_RUN}{name}: {why}"));
}

/// Says that the running test leaves out a part, which, and why.
pub fn left_out(why: &str) {
    say(&format!("{LEFT_OUT}{}: {why}", running()));
}

/// libtest names threads after tests.
fn running() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Not captured, unlike what `eprintln!` writes.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Whether this machine is emulated, and so many times slower than others.
pub fn emulated() -> bool {
    env::var_os(EMULATED).is_some()
}

/// How long to wait for what takes `usually` at most on other machines.
pub fn patient(usually: Duration) -> Duration {
    if emulated() { usually * 6 } else { usually }
}
