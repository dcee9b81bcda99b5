//! What can go wrong between the table and the kernel.

use std::{io, path::PathBuf};

/// An error of the data path. Each displays as one sentence that says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This kernel or user cannot run vipnat.
    #[error("{0}")]
    Unsupported(String),
    /// An app's cgroup is not there.
    #[error(
        "app {app:?}: cgroup {} does not exist; start its container first, or correct `cgroup` \
         in the table",
        path.display()
    )]
    NoCgroup {
        /// The app.
        app: String,
        /// The whole path of the cgroup.
        path: PathBuf,
    },
    /// The pinned state was made by a vipnat of another layout.
    #[error(
        "the state in {} has another layout ({what}); use the vipnat that made it, or run \
         `vipnat flush` and apply again: VIPs do not answer in between",
        dir.display()
    )]
    Layout {
        /// The state directory.
        dir: PathBuf,
        /// What differs.
        what: String,
    },
    /// The table does not fit into a map.
    #[error(
        "the table needs {needed} more elements of the map `{map}`, which has {free} free of \
         {capacity}; use fewer backends or smaller weights, or move apps to another machine"
    )]
    Full {
        /// The map.
        map: &'static str,
        /// How many elements the change needs.
        needed: usize,
        /// How many are free, not counting those the change itself would free.
        free: usize,
        /// How many the map holds.
        capacity: u32,
    },
    /// A system call failed.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried, and on what.
        operation: String,
        /// The reason.
        source: io::Error,
    },
    /// A BPF operation failed.
    #[error("cannot {operation}: {}", chain(source.as_ref()))]
    Bpf {
        /// What was tried, and on what.
        operation: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The result of an operation on the data path.
pub type Result<T> = std::result::Result<T, Error>;

/// aya's errors say the system call and leave the reason to their source.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Adds what was tried to an error.
pub(super) trait Attempt<T> {
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
    aya::maps::MapError,
    aya::pin::PinError,
    aya::programs::ProgramError,
    aya::programs::links::LinkError,
    aya_obj::ParseError
);
