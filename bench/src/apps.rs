//! The cgroups of the apps of a table.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use vipnat_testkit::Cgroup;

use crate::shape::Shape;

/// A cgroup for each app. They are removed on drop; the programs on them must be dropped before.
pub(crate) struct Apps {
    /// The cgroup of the only app, or the parent of the cgroups of many.
    cgroup: Cgroup,
    shape: Shape,
}

impl Apps {
    pub(crate) fn new(shape: Shape) -> Result<Self> {
        let apps = Self { cgroup: Cgroup::new(), shape };
        if !shape.is_one_app() {
            for index in 0..shape.apps {
                let path = apps.path(index);
                fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
            }
        }
        Ok(apps)
    }

    /// The paths of the cgroups, as a table names them.
    pub(crate) fn relative(&self) -> Vec<String> {
        let parent = self.cgroup.relative();
        if self.shape.is_one_app() {
            return vec![parent.to_owned()];
        }
        (0..self.shape.apps).map(|index| format!("{parent}/a{index}")).collect()
    }

    /// The cgroup of the last app.
    pub(crate) fn last(&self) -> PathBuf {
        self.path(self.shape.apps - 1)
    }

    fn path(&self, index: u32) -> PathBuf {
        let path = self.cgroup.path();
        if self.shape.is_one_app() { path.to_owned() } else { path.join(format!("a{index}")) }
    }
}
