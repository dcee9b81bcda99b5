//! The list of removed backends whose connections are still to be ended.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::Ipv4Addr,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use vipnat_common::AppId;
use vipnat_core::model::{Mappings, RemovedBackend};

/// The removed backends, in the order in which they left the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingDisconnects(pub(super) Vec<PendingDisconnect>);

/// A removed backend whose connections vipnat still has to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingDisconnect {
    /// Identifies the removal. A backend may leave, come back and leave again while vipnat ends the
    /// connections of the first removal.
    #[serde(default)]
    pub id: Id,
    /// The backend, and the app and VIP that it was removed from.
    #[serde(flatten)]
    pub removed: RemovedBackend,
    /// Whole paths of the app's cgroups. Their network namespaces have most or all of the connections.
    #[serde(with = "super::paths")]
    pub cgroups: Vec<PathBuf>,
    /// The time at which vipnat ends the connections, in seconds since the machine started.
    pub due: u64,
    /// The connections end as soon as the user confirms the change that removed the backend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_trial: bool,
    /// An attempt failed. vipnat tries again when it is due, or with an earlier change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// The id of a removal. No other removal gets the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Id(u64);

impl Default for Id {
    /// A new id: the keys of the hash are random in each process and for each value.
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

impl PendingDisconnects {
    /// Whether the list is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The app and the VIP of each removed backend.
    pub(crate) fn vips(&self) -> impl Iterator<Item = (AppId, Ipv4Addr)> {
        self.0.iter().map(|PendingDisconnect { removed, .. }| (removed.app_id, removed.vip))
    }

    /// Adds one.
    pub(crate) fn push(&mut self, drain: PendingDisconnect) {
        self.0.push(drain);
    }

    /// The user confirmed the change: the disconnects that waited for it are due now.
    pub(crate) fn confirm(&mut self) {
        for drain in self.0.iter_mut().filter(|drain| drain.on_trial) {
            (drain.due, drain.on_trial) = (0, false);
        }
    }

    /// A copy of these.
    pub(crate) fn of(drains: &[PendingDisconnect]) -> Self {
        Self(drains.to_vec())
    }

    /// The ids of all removals.
    pub(crate) fn ids(&self) -> HashSet<Id> {
        self.0.iter().map(|drain| drain.id).collect()
    }

    /// Removes these, if they are still in the list.
    pub(crate) fn take_out(&mut self, done: &HashSet<Id>) {
        self.0.retain(|drain| !done.contains(&drain.id));
    }

    /// Makes failed ones due again at another time, if they are still in the list.
    pub(crate) fn try_again(&mut self, failed: &HashSet<Id>, due: u64) {
        for drain in self.0.iter_mut().filter(|drain| failed.contains(&drain.id)) {
            (drain.due, drain.again) = (due, true);
        }
    }

    /// Removes those whose backend is back, by the mappings of their VIPs.
    pub(crate) fn cancel_back(&mut self, mappings: &Mappings) {
        self.cancel(|removed| removed.is_back(mappings));
    }

    /// Removes those whose backend is back, as `stays` decides.
    pub(crate) fn cancel(&mut self, stays: impl Fn(&RemovedBackend) -> bool) {
        self.0.retain(|drain| !stays(&drain.removed));
    }

    /// Removes and returns those that are due. `now` is in seconds since the machine started.
    pub(crate) fn due(&mut self, now: u64) -> Vec<PendingDisconnect> {
        self.0.extract_if(.., |drain| drain.due <= now).collect()
    }

    /// Removes and returns those that are due, or failed before.
    pub(crate) fn due_or_failed(&mut self, now: u64) -> Vec<PendingDisconnect> {
        self.0.extract_if(.., |drain| drain.again || drain.due <= now).collect()
    }

    /// The time until the next one is due; `None` if the list is empty.
    pub(crate) fn next(&self, now: u64) -> Option<Duration> {
        let due = self.0.iter().map(|drain| drain.due).min()?;
        Some(Duration::from_secs(due.saturating_sub(now)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use vipnat_core::model::Backend;

    use super::*;

    /// A removal of 240.0.0.`number`.
    pub(in crate::state::pending_disconnects) fn drain(number: u8, due: u64) -> PendingDisconnect {
        let backend = Backend { ip: Ipv4Addr::new(240, 0, 0, number), port: 0 };
        let vip = Ipv4Addr::new(169, 254, 37, 209);
        let removed = RemovedBackend {
            app: "shop".to_owned(),
            relationship: None,
            app_id: AppId(1),
            vip,
            backend,
        };
        let cgroups = vec!["/sys/fs/cgroup/shop".into()];
        PendingDisconnect {
            id: Id(number.into()),
            removed,
            cgroups,
            due,
            on_trial: false,
            again: false,
        }
    }

    #[test]
    fn what_is_due_is_taken_out_and_the_rest_waits() {
        let mut drains = PendingDisconnects(vec![drain(1, 100), drain(2, 90), drain(3, 101)]);
        assert_eq!(drains.next(80), Some(Duration::from_secs(10)));
        assert!(drains.due(89).is_empty());
        assert_eq!(drains.due(100), [drain(1, 100), drain(2, 90)]);
        assert_eq!(drains.next(200), Some(Duration::ZERO));
        assert_eq!(drains.due(200), [drain(3, 101)]);
        assert_eq!((drains.next(200), drains.is_empty()), (None, true));
    }

    #[test]
    fn a_backend_that_is_back_is_left_alone() {
        let mut drains = PendingDisconnects(vec![drain(1, 100), drain(2, 100)]);
        drains.cancel(|removed| removed.backend.ip.octets()[3] == 1);
        assert_eq!(drains, PendingDisconnects(vec![drain(2, 100)]));
    }

    /// Other commands may change the list while one command ends connections without the lock.
    #[test]
    fn a_backend_that_left_came_back_and_left_again_is_not_taken_for_the_one_that_is_done() {
        let again = PendingDisconnect { id: Id::default(), ..drain(1, 0) };
        let done = PendingDisconnects(vec![drain(1, 0)]).ids();
        let mut drains = PendingDisconnects(vec![again.clone()]);
        drains.take_out(&done);
        assert_eq!(drains, PendingDisconnects(vec![again.clone()]));
        // A failure does not put back what another command cancelled meanwhile.
        drains.try_again(&done, 30);
        assert_eq!(drains, PendingDisconnects(vec![again.clone()]));
        drains.try_again(&PendingDisconnects(vec![again.clone()]).ids(), 30);
        assert_eq!(
            drains,
            PendingDisconnects(vec![PendingDisconnect { due: 30, again: true, ..again.clone() }])
        );
        assert!(drains.due(29).is_empty());
        drains.take_out(&PendingDisconnects(vec![again]).ids());
        assert!(drains.is_empty());
    }

    #[test]
    fn what_an_earlier_build_noted_without_an_id_gets_one() {
        let mut value = serde_json::to_value(drain(1, 100)).unwrap();
        value.as_object_mut().unwrap().remove("id");
        let read = || serde_json::from_value::<PendingDisconnect>(value.clone()).unwrap();
        let (one, other) = (read(), read());
        assert!(one.id != other.id && one.removed == other.removed);
    }
}
