//! Runs code that a test expects to panic.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether panics of this thread are expected.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code that must panic, and gives the value of the panic.
///
/// The panic prints nothing, because a backtrace in a run that passes looks like a failure. Other threads
/// print their panics as usual.
///
/// # Panics
///
/// Panics if `run` does not panic.
#[track_caller]
pub fn panics<T>(run: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    match expecting(true, || panic::catch_unwind(AssertUnwindSafe(run))) {
        Err(panicked) => panicked,
        Ok(_) => panic!("this was to panic"),
    }
}

/// Whether panics of this thread are expected. Callers pass this on to a thread that they start.
pub(crate) fn expected() -> bool {
    EXPECTED.get()
}

/// Runs code with panics of this thread expected, or not.
pub(crate) fn expecting<T>(expected: bool, run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    if expected {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                // A thread that is ending has no such value any more.
                if !EXPECTED.try_with(Cell::get).unwrap_or(false) {
                    before(panicked);
                }
            }));
        });
    }
    let before = EXPECTED.replace(expected);
    // Restores the value even if `run` panics. The caller expects that panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EXPECTED.set(self.0);
        }
    }
    let _restore = Restore(before);
    run()
}
