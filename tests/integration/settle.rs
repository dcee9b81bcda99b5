//! Waits for a state, beside a process that makes it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use similar::TextDiff;
use vipnat_testkit::patient;

/// Time limit of a change. It is shorter than the time until the next review, which repairs the state.
pub(crate) const CHANGE: Duration = Duration::from_secs(20);

/// The pause between two looks at the state. vipnat tries every 5 ms to lock it.
pub(crate) const PAUSE: Duration = Duration::from_millis(12);

/// Waits until the state is the expected one, for this time.
#[track_caller]
pub(crate) fn becomes(read: impl Fn() -> String, expected: &str, time: Duration, context: &str) {
    let deadline = Instant::now() + patient(time);
    loop {
        let found = read();
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{context}:\n{}",
            TextDiff::from_lines(expected, &found).unified_diff().header("expected", "found")
        );
        sleep(PAUSE);
    }
}
