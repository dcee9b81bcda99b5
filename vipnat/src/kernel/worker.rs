//! Lets a process end although one of its calls hangs.
//!
//! A call may hang forever: a file system hangs, a reader of standard output stops reading, or another
//! process keeps a lock. No signal ends such a call. So `vipnat run` works on a thread of its own, a
//! [`Worker`], and wraps each such call in [`may_hang`]. The thread that receives signals abandons a worker
//! that hangs in such a call. It never abandons a worker between these calls: that work is short, and must be
//! done.

use std::{
    cell::RefCell,
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The pause between two checks of [`Worker::end`].
const PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    /// The state of this thread, if it is a worker.
    static HERE: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct State {
    /// The name of the call that the worker is in, and since when.
    waits: Option<(String, Instant)>,
    /// The worker was abandoned, and must do nothing more.
    abandoned: bool,
}

/// Runs an action that may hang. `what` names what it waits for. On a thread that is no worker, it only runs
/// the action.
pub(crate) fn may_hang<T>(what: impl FnOnce() -> String, action: impl FnOnce() -> T) -> T {
    let Some(state) = HERE.with_borrow(Clone::clone) else {
        return action();
    };
    {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waits.is_some() {
            drop(state);
            return action();
        }
        state.waits = Some((what(), Instant::now()));
    }
    let result = action();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.waits = None;
    if state.abandoned {
        drop(state);
        // The result may be a lock that other processes wait for.
        drop(result);
        loop {
            thread::park();
        }
    }
    result
}

/// Runs an action that may hang, and returns after `time` at the latest. The action then goes on alone.
pub(crate) fn within(time: Duration, action: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        action();
        let _ = sender.send(());
    });
    let _ = done.recv_timeout(time);
}

/// A thread that can be abandoned while it hangs.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    state: Arc<Mutex<State>>,
    thread: JoinHandle<T>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a worker. `at_end` runs when it has ended, also if it panicked.
    pub(crate) fn start(
        work: impl FnOnce() -> T + Send + 'static,
        at_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (sender, ended) = mpsc::channel();
        let here = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let _sender = sender;
            let _at_end = AtEnd(Some(at_end));
            HERE.set(Some(here));
            work()
        });
        Self { state, thread, ended }
    }

    /// Waits for its result.
    ///
    /// # Panics
    ///
    /// The worker panicked.
    pub(crate) fn join(self) -> T {
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Waits for its result, but abandons it if it hangs in one call for longer than `patience`. It then
    /// does nothing more, even if that call returns.
    ///
    /// # Errors
    ///
    /// The name of the call that it hangs in.
    pub(crate) fn end(self, patience: Duration) -> Result<T, String> {
        loop {
            match self.ended.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) => {
                    let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((what, since)) = &state.waits
                        && since.elapsed() >= patience
                    {
                        let what = what.clone();
                        state.abandoned = true;
                        return Err(what);
                    }
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(self.join()),
            }
        }
    }
}

/// Runs a function when a thread ends, also by a panic.
struct AtEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        if let Some(at_end) = self.0.take() {
            at_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn a_worker_that_hangs_is_abandoned_and_does_nothing_more() {
        let (release, hung) = mpsc::channel::<()>();
        let went_on = Arc::new(AtomicBool::new(false));
        let later = Arc::clone(&went_on);
        let worker = Worker::start(
            move || {
                // The outer call is the one that counts.
                let _ = may_hang(
                    || "a lock".to_owned(),
                    || may_hang(|| "a file".to_owned(), || hung.recv()),
                );
                later.store(true, SeqCst);
            },
            || {},
        );
        assert_eq!(worker.end(SHORT), Err("a lock".to_owned()));
        release.send(()).unwrap();
        thread::sleep(SHORT);
        assert!(!went_on.load(SeqCst));
    }

    #[test]
    fn the_result_of_a_call_of_an_abandoned_worker_is_dropped() {
        let (release, hung) = mpsc::channel::<()>();
        let (sender, kept) = mpsc::channel::<()>();
        let worker = Worker::start(
            move || {
                may_hang(
                    || "a lock".to_owned(),
                    move || {
                        let _ = hung.recv();
                        sender
                    },
                )
            },
            || {},
        );
        assert_eq!(worker.end(SHORT).err(), Some("a lock".to_owned()));
        release.send(()).unwrap();
        let gone = kept.recv_timeout(Duration::from_secs(60));
        assert_eq!(gone, Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_worker_that_works_is_waited_for() {
        let (sender, ended) = mpsc::channel();
        let worker = Worker::start(
            || {
                for _ in 0..5 {
                    thread::sleep(SHORT);
                    may_hang(|| "not for long".to_owned(), || ());
                }
                7
            },
            move || sender.send(()).unwrap(),
        );
        assert_eq!(worker.end(SHORT), Ok(7));
        assert_eq!(ended.recv(), Ok(()));
        // This thread is no worker.
        assert_eq!(may_hang(|| unreachable!(), || 3), 3);
    }
}
