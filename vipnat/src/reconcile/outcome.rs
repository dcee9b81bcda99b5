//! What came of a command.

use std::{io, path::PathBuf, time::SystemTime};

use vipnat_core::model::Change;

use super::disconnect::Connections;
use crate::{kernel::error::Error, state::run_dir};

/// The living cgroups of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Living {
    /// Those in view, as whole paths.
    pub paths: Vec<PathBuf>,
    /// Why there are others that are not, if there are.
    pub unseen: Option<String>,
}

/// What came of [`Session::attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The app was translated there already.
    Already,
    /// It is now.
    Now,
    /// It is now, and another app, to which a table had given the cgroup, is no longer.
    TakenFrom(String),
}

/// What came of [`Session::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// What it changed.
    pub changes: Vec<Change>,
    /// Connections that were ended, since their backend left the table.
    pub ended: Vec<Connections>,
    /// Connections that will be, and when.
    pub draining: Vec<(Connections, SystemTime)>,
    /// What people should know.
    pub warnings: Vec<String>,
    /// Why apps could not be attached. These keep what they had, and so do those whose cgroups they were
    /// to get.
    pub failed: Vec<Error>,
}

/// What came of [`Session::flush`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Whether there was anything to remove.
    pub found: bool,
    /// What could not be done beside the data path, which is removed all the same.
    pub warnings: Vec<String>,
}

impl Flushed {
    pub(crate) fn warn(&mut self, what: &str, error: &io::Error) {
        self.warnings.push(format!("cannot {what} in {}: {error}", run_dir::DIRECTORY));
    }
}
