//! The changes that an apply makes, for people.

use std::{net::Ipv4Addr, path::PathBuf};

use super::{capacity::Capacity, mapping::Mapping, place::Place};

/// One change that an apply makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The programs of this build replace the present ones.
    Upgrade {
        /// The difference in the layout of the maps, if there is one.
        layout: Option<String>,
    },
    /// Larger maps replace the present ones, since the table needs more.
    Grow {
        /// The number of VIPs that they hold; limited VIPs count twice.
        vips: u32,
        /// The number of slots. A backend needs one for each of its VIPs and turns.
        backends: u32,
    },
    /// A new app has no cgroup yet.
    Expect {
        /// The app.
        app: String,
    },
    /// An app is attached to a cgroup, for the first time or again.
    Attach {
        /// The app.
        app: String,
        /// The cgroup, below the mount.
        cgroup: PathBuf,
        /// Its id.
        id: u64,
    },
    /// An app is no longer translated in a cgroup.
    Leave {
        /// The app.
        app: String,
        /// The cgroup.
        cgroup: Place,
    },
    /// An app is no longer translated.
    Detach {
        /// The app.
        app: String,
    },
    /// A VIP is added (no old mapping), removed (no new one) or changed.
    Vip {
        /// The app.
        app: String,
        /// The relationship, if its name is known.
        relationship: Option<String>,
        /// The VIP.
        vip: Ipv4Addr,
        /// Its mapping before.
        old: Option<Mapping>,
        /// Its mapping from now on.
        new: Option<Mapping>,
    },
    /// vipnat repairs an interrupted change.
    Repair,
}

impl From<Capacity> for Change {
    fn from(capacity: Capacity) -> Self {
        let Capacity { vips, backends, cursors: _ } = capacity;
        Self::Grow { vips, backends }
    }
}
