//! Events for the loop of `vipnat run`. They set flags and are not queued, so a flood takes no memory.

use std::{
    mem,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::reading::Reading;
use crate::reconcile::Reclaimable;

/// The events since the loop last looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// SIGTERM or SIGINT came.
    pub(crate) stop: bool,
    /// SIGHUP came.
    pub(crate) reload: bool,
    /// The result of reading the file.
    pub(crate) reading: Option<Reading>,
    /// The file changed, or events about it were lost.
    pub(crate) changed: bool,
    /// A writer has the file open.
    pub(crate) written: bool,
    /// Cgroups came or went.
    pub(crate) cgroups: bool,
    /// No program reads these retired slots any more.
    pub(crate) reclaimable: Option<Reclaimable>,
}

/// Collects events from all threads.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<Option<News>>,
    arrived: Condvar,
}

impl Inbox {
    /// Notes an event, and wakes the loop.
    pub(crate) fn tell(&self, note: impl FnOnce(&mut News)) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        note(news.get_or_insert_default());
        self.arrived.notify_one();
    }

    /// Waits for an event, at most this long. Takes all events.
    pub(crate) fn wait(&self, time: Duration) -> News {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(news, time, |news| news.is_none());
        let (mut news, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *news).unwrap_or_default()
    }
}
