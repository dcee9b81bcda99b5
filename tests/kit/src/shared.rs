//! An expensive value that all current users share.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;

/// A shared value, for a `static`. Rust never drops a `static`, but the value is dropped with its last user.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    /// Makes it without a value.
    #[expect(
        clippy::new_without_default,
        reason = "it belongs in a `static`, and that takes a const fn"
    )]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// Gives the value of the current users, or makes one. Other callers wait meanwhile.
    pub fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = shared.upgrade() {
            return Ok(there);
        }
        let made = Arc::new(make()?);
        *shared = Arc::downgrade(&made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_for_all_who_have_it_and_again_after_them() {
        static SHARED: Shared<u8> = Shared::new();
        let unwanted = || -> Result<u8> { panic!("it is there") };
        let (first, second) = (SHARED.get(|| Ok(1)).unwrap(), SHARED.get(unwanted).unwrap());
        assert_eq!((*first, *second), (1, 1));
        drop((first, second));
        assert_eq!(*SHARED.get(|| Ok(2)).unwrap(), 2);
    }
}
