//! The cgroup of an app.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    thread,
};

use crate::{cgroup_removal::remove, leftovers, mounts};

/// A cgroup v2. `Drop` kills only the processes in it and in cgroups below it, and removes these cgroups.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    relative: String,
}

impl Cgroup {
    /// Makes a cgroup directly below the mount, named after this process.
    #[expect(clippy::new_without_default, reason = "makes a kernel object")]
    pub fn new() -> Self {
        Self::make(leftovers::test_name())
    }

    /// The same with another prefix. The caller sweeps its leftovers: see [`sweep`](crate::sweep).
    pub fn with_prefix(prefix: &str) -> Self {
        Self::make(leftovers::unique(prefix))
    }

    /// Makes a cgroup below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::make(format!("{}/{name}", self.relative))
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path below the cgroup v2 mount, as a table names it.
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// Opens `cgroup.procs`. A process that writes "0" to it moves in.
    pub fn procs(&self) -> File {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
    }

    fn make(relative: String) -> Self {
        let path = mounts::cgroup2().join(&relative);
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("make cgroup {}: {error}", path.display()));
        Self { path, relative }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let Self { path, relative: _ } = self;
        if let Err(error) = remove(path) {
            let message = format!("remove cgroup {}: {error}", path.display());
            if thread::panicking() {
                eprintln!("{message}");
            } else {
                panic!("{message}");
            }
        }
    }
}
