//! Limits the number of cases that run at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// Lets only a limited number in at once.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The number of free places. It is negative after some that were away have come back.
    free: Mutex<isize>,
    left: Condvar,
}

impl Gate {
    pub(crate) fn new(free: isize) -> Self {
        Self { free: Mutex::new(free), left: Condvar::new() }
    }

    pub(crate) fn enter(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.left.wait_while(free, |free| *free <= 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    pub(crate) fn leave(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.left.notify_one();
    }

    /// Makes room for another one while `work` runs. Comes back at once, even without a free place.
    pub(crate) fn while_away(&self, work: impl FnOnce()) {
        self.leave();
        work();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}
