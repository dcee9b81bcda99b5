//! Input of a program that is measured.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::Result;
use vipnat_testkit::TEST_PREFIX;

/// A temporary file that is removed on drop. If the drop never runs, the next sweep removes it.
pub(super) struct Input(PathBuf);

impl Input {
    pub(super) fn new(text: &str) -> Result<Self> {
        // Other fixtures count from 0.
        let name = format!("{TEST_PREFIX}-{}-{}", process::id(), u32::MAX);
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        let file = path.join("rules");
        fs::write(&file, text)?;
        Ok(Self(file))
    }

    pub(super) fn path(&self) -> &Path {
        let Self(file) = self;
        file
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}
