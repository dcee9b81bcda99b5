//! What can go wrong between the table and the kernel.

use std::{io, path::PathBuf};

use vipnat_core::{model::MapFull, text::shown_name};

/// An error of the data path. Its display says what was tried, on what, and what to do next; the
/// reason a system call gives is its source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This kernel or user cannot run vipnat.
    #[error("{0}")]
    Unsupported(String),
    /// Cgroups of apps are not there.
    #[error(
        "{}; start the containers first, or correct the table",
        missing.iter()
            .map(|(app, path)| format!("app {app:?}: cgroup {} does not exist", shown_name(path)))
            .collect::<Vec<_>>()
            .join("; ")
    )]
    NoCgroup {
        /// Each app, and the whole path of its cgroup.
        missing: Vec<(String, PathBuf)>,
    },
    /// A part of the hierarchy, in which cgroups of an app may be, is not in view.
    #[error(
        "app {app:?}: which of the cgroups {cgroups} there are can't be told, so those it has stay \
         attached: {reason}"
    )]
    Unseen {
        /// The app.
        app: String,
        /// Its cgroups, as the table has them.
        cgroups: String,
        /// What is in the way.
        reason: String,
    },
    /// A part of the hierarchy is not in view.
    #[error("{0}")]
    NotInView(String),
    /// Several apps claim one cgroup.
    #[error(
        "cgroup {} is claimed by the apps {}, so it is given to none of them; make their patterns \
         disjoint, or name the cgroup itself in one app, which then has it",
        shown_name(cgroup), apps.join(", ")
    )]
    Contested {
        /// The cgroup, below the mount.
        cgroup: PathBuf,
        /// The apps, two or more.
        apps: Vec<String>,
    },
    /// What was asked for does not fit what is there.
    #[error("{0}")]
    Refused(String),
    /// The pinned state was made by a vipnat of another layout.
    #[error(
        "the state in {} has another layout ({what}); `vipnat apply TABLE` moves it over to this \
         one, or use the vipnat that made it",
        shown_name(dir)
    )]
    Layout {
        /// The state directory.
        dir: PathBuf,
        /// What differs.
        what: String,
    },
    /// The table does not fit into a map.
    #[error(transparent)]
    Full(#[from] MapFull),
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried, and on what.
        operation: String,
        /// The reason.
        source: io::Error,
    },
    /// A BPF operation failed.
    #[error("cannot {operation}")]
    Bpf {
        /// What was tried, and on what.
        operation: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Another error in place of that something is no directory.
    pub(crate) fn unless_directory(self, other: impl FnOnce() -> Self) -> Self {
        match &self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => other(),
            _ => self,
        }
    }

    /// Whether it may be otherwise the next time: not what this kernel can't do at all.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported)
    }

    /// Whether a map is missing, is another one than expected, or holds what it should not.
    pub(crate) fn is_of_another_layout(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
            }
            Self::Unsupported(_) | Self::Layout { .. } => true,
            _ => false,
        }
    }
}

/// The result of an operation on the data path.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds what was tried to an error.
pub(crate) trait Attempt<T> {
    fn attempt(self, operation: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { operation: operation(), source })
    }
}

impl<T> Attempt<T> for nix::Result<T> {
    fn attempt(self, operation: impl FnOnce() -> String) -> Result<T> {
        self.map_err(io::Error::from).attempt(operation)
    }
}

macro_rules! attempt_bpf {
    ($($error:ty),+) => {$(
        impl<T> Attempt<T> for std::result::Result<T, $error> {
            fn attempt(self, operation: impl FnOnce() -> String) -> Result<T> {
                self.map_err(|source| Error::Bpf { operation: operation(), source: source.into() })
            }
        }
    )+};
}

attempt_bpf!(
    aya::EbpfError,
    aya::BtfError,
    aya::maps::MapError,
    aya::pin::PinError,
    aya::programs::ProgramError,
    aya::programs::links::LinkError,
    aya_obj::ParseError
);
