//! What woke `run`: noted, not queued, so that it takes no memory however much happens.

use std::{
    mem,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::follow::reading::Reading;

/// What happened since the loop last looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// SIGTERM or SIGINT.
    pub(crate) stop: bool,
    /// SIGHUP.
    pub(crate) reload: bool,
    /// The file was read.
    pub(crate) reading: Option<Reading>,
    /// The file may be another one, or have been written; or nobody knows.
    pub(crate) changed: bool,
    /// The file is written to, and not closed yet.
    pub(crate) written: bool,
    /// Cgroups came or went.
    pub(crate) cgroups: bool,
}

/// Where it is noted, by any thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<Option<News>>,
    arrived: Condvar,
}

impl Inbox {
    /// Notes something.
    pub(crate) fn tell(&self, what: impl FnOnce(&mut News)) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        what(news.get_or_insert_default());
        self.arrived.notify_one();
    }

    /// Waits until there is something, but not longer than this.
    pub(crate) fn wait(&self, time: Duration) -> News {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(news, time, |news| news.is_none());
        let (mut news, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *news).unwrap_or_default()
    }
}
