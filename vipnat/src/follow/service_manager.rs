//! Tells systemd the state of `vipnat run`.

use sd_notify::NotifyState;

use crate::kernel::worker::may_hang;

/// Sends these states to systemd, if it started this process.
pub(crate) fn notify_manager(states: &[NotifyState<'_>]) {
    let _ = may_hang(|| "the service manager".to_owned(), || sd_notify::notify(states));
}
