//! The cgroups in view, for callers that look at many.

use std::{ffi::OsString, path::Path};

use crate::kernel::{cgroup::OpenTree, error::Result};

/// The cgroups as [`Session::cgroups`](super::Session::cgroups) found them. Not for keeping: another mount
/// may be the one in view later.
#[derive(Debug)]
pub struct CgroupView {
    opened: OpenTree,
}

impl CgroupView {
    /// The cgroups of an opened hierarchy.
    pub(crate) fn new(opened: OpenTree) -> Self {
        Self { opened }
    }

    /// The mount point of cgroup v2.
    pub fn mount(&self) -> &Path {
        self.opened.mount()
    }

    /// The id of a cgroup below the mount; `None` if there is none.
    ///
    /// # Errors
    ///
    /// A cgroup that is not in view.
    pub fn id_of(&self, below: &Path) -> Result<Option<u64>> {
        Ok(self.opened.id(below)?)
    }

    /// The names of the cgroups right below one; none if it is gone.
    ///
    /// # Errors
    ///
    /// A cgroup that is not in view.
    pub fn names_in(&self, below: &Path) -> Result<Vec<OsString>> {
        Ok(self.opened.names(below)?)
    }
}
