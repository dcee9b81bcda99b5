//! Events for a thread that waits for them. They set flags and are not queued, so a flood takes no memory.

use std::{
    mem,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::reading::Reading;
use crate::reconcile::Reclaimable;

/// The events since the loop of `vipnat run` last looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// SIGTERM or SIGINT came.
    pub(crate) stop: bool,
    /// SIGHUP came.
    pub(crate) reload: bool,
    /// The source has a table, or changes.
    pub(crate) reading: Option<Reading>,
    /// Cgroups came or went.
    pub(crate) cgroups: bool,
    /// No program reads these retired slots any more; `None` if the wait for that failed.
    pub(crate) reclaimable: Vec<Option<Reclaimable>>,
}

/// Collects events from all threads.
#[derive(Debug, Default)]
pub(crate) struct Inbox<T> {
    news: Mutex<Option<T>>,
    arrived: Condvar,
}

impl<T: Default> Inbox<T> {
    /// Notes an event, and wakes the thread that waits.
    pub(crate) fn tell(&self, note: impl FnOnce(&mut T)) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        note(news.get_or_insert_default());
        self.arrived.notify_one();
    }

    /// Waits for an event, at most this long. Takes all events.
    pub(crate) fn wait(&self, time: Duration) -> T {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(news, time, |news| news.is_none());
        let (mut news, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *news).unwrap_or_default()
    }

    /// Waits until `take` finds what it looks for. It leaves all other events.
    pub(crate) fn wait_for<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = news.as_mut().and_then(&mut take) {
                return found;
            }
            news = self.arrived.wait(news).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
