//! Calls that may wait for others for ever, and how a process ends all the same.
//!
//! A file system may hang, nobody may read what is printed, another process may keep a lock: no signal ends
//! such a call. So `vipnat run` works on a thread of its own, a [`Worker`], which names each such call
//! ([`may_hang`]), and the thread that hears signals gives a worker up that hangs in one. Between these
//! calls the worker is never given up: what it does there is short, and is done.

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

/// How often a worker that is to end is looked at.
const LOOK: Duration = Duration::from_millis(10);

thread_local! {
    /// What is known of this thread, if it is a worker.
    static HERE: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct State {
    /// What the worker waits for, and since when.
    waits: Option<(String, Instant)>,
    /// Nobody waits for it any more: it must do nothing more.
    given_up: bool,
}

/// Does what may wait for ever; `what` is what it waits for. Without a worker, no more than that.
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
    if state.given_up {
        drop(state);
        // It may be a lock that others wait for.
        drop(result);
        loop {
            thread::park();
        }
    }
    result
}

/// Calls `action`, which may hang, and leaves it alone after some time.
pub(crate) fn within(time: Duration, action: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        action();
        let _ = sender.send(());
    });
    let _ = done.recv_timeout(time);
}

/// A thread that can be given up while it hangs.
#[derive(Debug)]
pub(crate) struct Worker<T> {
    state: Arc<Mutex<State>>,
    thread: JoinHandle<T>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it. `at_end` is called when it has ended, however it did.
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

    /// Its result, once it has ended.
    ///
    /// # Panics
    ///
    /// If it panicked.
    pub(crate) fn join(self) -> T {
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Its result, or, if it hangs for longer than `patience`, what it waits for: then it does nothing
    /// more, whatever becomes of that.
    ///
    /// # Errors
    ///
    /// What it waits for.
    pub(crate) fn end(self, patience: Duration) -> Result<T, String> {
        loop {
            match self.ended.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {
                    let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((what, since)) = &state.waits
                        && since.elapsed() >= patience
                    {
                        let what = what.clone();
                        state.given_up = true;
                        return Err(what);
                    }
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(self.join()),
            }
        }
    }
}

/// Tells that a thread has ended, also by a panic.
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
    fn a_worker_that_hangs_is_given_up_and_does_nothing_more() {
        let (release, hung) = mpsc::channel::<()>();
        let went_on = Arc::new(AtomicBool::new(false));
        let later = Arc::clone(&went_on);
        let worker = Worker::start(
            move || {
                // The outer one is what it waits for.
                let _ = may_hang(
                    || "a friend".to_owned(),
                    || may_hang(|| "nobody".to_owned(), || hung.recv()),
                );
                later.store(true, SeqCst);
            },
            || {},
        );
        assert_eq!(worker.end(SHORT), Err("a friend".to_owned()));
        release.send(()).unwrap();
        thread::sleep(SHORT);
        assert!(!went_on.load(SeqCst));
    }

    #[test]
    fn what_a_worker_got_after_it_was_given_up_is_let_go() {
        let (release, hung) = mpsc::channel::<()>();
        let (sender, kept) = mpsc::channel::<()>();
        let worker = Worker::start(
            move || {
                may_hang(
                    || "a friend".to_owned(),
                    move || {
                        let _ = hung.recv();
                        sender
                    },
                )
            },
            || {},
        );
        assert_eq!(worker.end(SHORT).err(), Some("a friend".to_owned()));
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
        // Without a worker there is nobody to give anything up.
        assert_eq!(may_hang(|| unreachable!(), || 3), 3);
    }
}
