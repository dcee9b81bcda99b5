//! The results of commands.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use vipnat_core::model::{Change, RemovedBackend};

use crate::{kernel::error::Error, state::run_dir};

/// The cgroups of an app that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveCgroups {
    /// Those in view, as whole paths.
    pub paths: Vec<PathBuf>,
    /// The reason why others are not in view; `None` if all are.
    pub unseen: Option<String>,
}

/// The result of [`Session::attach`](super::Session::attach).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The app was translated there already.
    Already,
    /// The app is translated there now.
    Now,
    /// The app is translated there now, instead of the app to which a table had given the cgroup.
    TakenFrom(String),
}

/// The result of [`Session::apply`](super::Session::apply).
#[derive(Debug, Default)]
pub struct Applied {
    /// The changes, in the order for printing.
    pub changes: Vec<Change>,
    /// Connections that were ended because their backend left the table.
    pub ended: Vec<Connections>,
    /// Connections that vipnat will end, and the time of each.
    pub draining: Vec<(Connections, SystemTime)>,
    /// The time until the next connections have had their time to drain; `None` if there are none.
    pub next_due: Option<Duration>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// The reasons why apps could not be attached. These apps keep their old state. So do the apps whose
    /// cgroups they should have got.
    pub failed: Vec<Error>,
}

/// The result of [`Session::flush`](super::Session::flush).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Whether there was anything to remove.
    pub found: bool,
    /// Warnings about files in /run/vipnat that could not be removed. The pinned state is removed all the
    /// same.
    pub warnings: Vec<String>,
}

impl Flushed {
    /// Adds a warning about a failure in /run/vipnat.
    pub(crate) fn warn(&mut self, what: &str, error: &io::Error) {
        self.warnings.push(format!("cannot {what} in {}: {error}", run_dir::DIRECTORY));
    }
}

/// Connections to one removed backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The backend, and the VIP and app that led to it.
    pub removed: RemovedBackend,
    /// The number of connections.
    pub count: usize,
}

/// The result of [`Session::end_drained`](super::Session::end_drained).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The connections that were ended.
    pub ended: Vec<Connections>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// The time until the next connections are due; `None` if none are.
    pub next: Option<Duration>,
}

/// The result of [`Session::follow_cgroups`](super::Session::follow_cgroups).
#[derive(Debug, Default)]
pub struct FollowedCgroups {
    /// The changes.
    pub changes: Vec<Change>,
    /// The reasons why apps could not be attached.
    pub failed: Vec<Error>,
    /// At least one case was not simple: apply the table.
    pub needs_apply: bool,
}
