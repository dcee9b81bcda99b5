//! Where a cgroup is, as far as it can be seen.

use std::path::{Path, PathBuf};

/// Where a cgroup is that an app has links on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At this path below the mount.
    At(PathBuf),
    /// It is there, for all that can be told, but not in view. This is its id.
    Unseen(u64),
    /// Nowhere any more.
    Gone,
}

impl Place {
    /// The path below the mount, if it is known.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::At(path) => Some(path),
            Self::Unseen(_) | Self::Gone => None,
        }
    }
}
