//! The place of a cgroup that an app is attached to.

use std::path::{Path, PathBuf};

/// The place of a cgroup that an app has links on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At this path below the mount.
    At(PathBuf),
    /// It may exist, but outside the part of the tree that vipnat can see. This is its id.
    Unseen(u64),
    /// It no longer exists.
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
