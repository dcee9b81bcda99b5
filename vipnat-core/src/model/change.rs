//! What an apply changes, for people.

use std::{net::Ipv4Addr, path::PathBuf};

use super::{capacity::Capacity, mapping::Mapping, place::Place};

/// One difference that an apply makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The programs are replaced by those of this build.
    Upgrade {
        /// How the layout of the maps differed; `None` if it did not.
        layout: Option<String>,
    },
    /// The table outgrew the maps, and larger ones take their place.
    Grow {
        /// How many VIPs they hold; those that are limited count twice.
        vips: u32,
        /// How many backends, each for each of its VIPs and turns.
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
    /// A VIP comes (no old rule), goes (no new one) or changes.
    Vip {
        /// The app.
        app: String,
        /// The relationship, if its name is known.
        relationship: Option<String>,
        /// The VIP.
        vip: Ipv4Addr,
        /// What it did.
        old: Option<Mapping>,
        /// What it does from now on.
        new: Option<Mapping>,
    },
    /// What a crash left behind is put in order.
    Repair,
}

impl From<Capacity> for Change {
    fn from(capacity: Capacity) -> Self {
        let Capacity { vips, backends, cursors: _ } = capacity;
        Self::Grow { vips, backends }
    }
}
