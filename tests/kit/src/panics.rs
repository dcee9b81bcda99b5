//! Panics that a test expects.

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

/// Runs what must panic; what it panicked with. Nothing is printed of that: a backtrace in a run that passes
/// looks like one that does not. Panics of other threads are printed as ever.
///
/// # Panics
///
/// If it does not panic.
#[track_caller]
pub fn panics<T>(run: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    match expecting(true, || panic::catch_unwind(AssertUnwindSafe(run))) {
        Err(panicked) => panicked,
        Ok(_) => panic!("this was to panic"),
    }
}

/// Whether panics of this thread are expected, for one that it starts.
pub(crate) fn expected() -> bool {
    EXPECTED.get()
}

/// Runs something whose panics are expected, or not.
pub(crate) fn expecting<T>(expected: bool, run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    if expected {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                // A thread that ends has no more such values.
                if !EXPECTED.try_with(Cell::get).unwrap_or(false) {
                    before(panicked);
                }
            }));
        });
    }
    let before = EXPECTED.replace(expected);
    // Also if it panics, which is for who called it to expect.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            EXPECTED.set(self.0);
        }
    }
    let _restore = Restore(before);
    run()
}
