//! An expensive value that all users of the moment share.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;

/// In a `static`: what it has is dropped with the last user, which a `static` itself never is.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    /// Nothing so far.
    #[expect(
        clippy::new_without_default,
        reason = "it belongs in a `static`, and that takes a const fn"
    )]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// What others have already, or what `make` makes, for which those that come meanwhile wait.
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
