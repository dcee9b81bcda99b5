//! The result of a part of a round.

use std::path::PathBuf;

use vipnat_core::model::{Change, Place};

use super::difference::LinkDifference;

/// The result of [`Session::review_links`](crate::reconcile::Session::review_links).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewedLinks {
    /// The round is complete, and the next call begins a new one.
    pub done: bool,
    /// The differences that an apply repairs.
    pub differences: Vec<LinkDifference>,
    /// The state is not as an apply leaves it: apply the table.
    pub needs_apply: bool,
    /// Removed cgroups that were released.
    pub changes: Vec<Change>,
    /// The paths of cgroups that are gone, below the mount. Other cgroups may be there now.
    pub gone: Vec<PathBuf>,
    /// Cgroups that `vipnat attach` has attached since: their paths below the mount, and ids.
    pub by_hand: Vec<(PathBuf, u64)>,
}

impl ReviewedLinks {
    /// Notes a difference, once.
    pub(super) fn differs(&mut self, difference: LinkDifference) {
        if !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
    }

    /// Notes that an app left a removed cgroup, which was at this path if that is known.
    pub(super) fn leave(&mut self, app: &str, below: Option<PathBuf>) {
        self.gone.extend(below);
        self.changes.push(Change::Leave { app: app.to_owned(), cgroup: Place::Gone });
    }
}
