//! Errors of all layers below the command line, and the text of each.

use std::{io, path::PathBuf};

use vipnat_core::{model::MapFull, text::shown_name};

use super::pins::BPFFS;

/// An error of the data path. Its display names the operation, its object and the next step; the reason
/// that a system call gives is its source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine or user cannot run vipnat.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The state directory is not one that vipnat may use.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// A map holds a value that no build of vipnat writes.
    #[error("the map {map} holds what vipnat never writes; run `vipnat flush` and apply again")]
    CorruptMap {
        /// Its name.
        map: &'static str,
    },
    /// A cgroup was removed while an app was attached to it.
    #[error(
        "app {app:?}: cgroup {} went away while it was attached; apply again",
        shown_name(cgroup)
    )]
    CgroupGone {
        /// The app.
        app: String,
        /// The whole path of the cgroup.
        cgroup: PathBuf,
    },
    /// The kernel or another program forbids attaching an app to a cgroup.
    #[error("app {app:?}: cannot attach to cgroup {}: {obstacle}", shown_name(cgroup))]
    CannotAttach {
        /// The app.
        app: String,
        /// The whole path of the cgroup.
        cgroup: PathBuf,
        /// The obstacle, and how to remove it.
        obstacle: String,
    },
    /// No app of this name is applied.
    #[error(
        "no app {app:?}{}",
        if applied.is_empty() {
            ": nothing is applied; apply a table first".to_owned()
        } else {
            format!(" is applied; there are: {}. Put it into the table", applied.join(", "))
        }
    )]
    UnknownApp {
        /// The name that was asked for.
        app: String,
        /// The apps that are applied.
        applied: Vec<String>,
    },
    /// Cgroups of apps do not exist.
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
    /// A part of the hierarchy that may hold cgroups of an app is not in view.
    #[error(
        "app {app:?}: cannot tell which of the cgroups {cgroups} exist, so those it has stay attached: \
         {reason}"
    )]
    Unseen {
        /// The app.
        app: String,
        /// Its cgroups, as the table has them.
        cgroups: String,
        /// The reason.
        reason: String,
    },
    /// A part of the hierarchy is not in view.
    #[error("{0}")]
    NotInView(String),
    /// Several apps claim one cgroup.
    #[error(
        "patterns of apps {} match cgroup {}, so no app gets it; change a pattern, or name the cgroup \
         in one app",
        apps.join(" and "), shown_name(cgroup)
    )]
    Contested {
        /// The cgroup, below the mount.
        cgroup: PathBuf,
        /// The apps, two or more.
        apps: Vec<String>,
    },
    /// A request does not fit the present state. The text has the reason and the next step.
    #[error("{0}")]
    Refused(String),
    /// A vipnat of another layout made the pinned state.
    #[error(
        "the state in {} has another layout ({what}); `vipnat apply TABLE` moves it over to this \
         one, or use the vipnat that made it",
        shown_name(dir)
    )]
    Layout {
        /// The state directory.
        dir: PathBuf,
        /// The difference.
        what: String,
    },
    /// The table does not fit into a map.
    #[error(transparent)]
    Full(#[from] MapFull),
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// The operation and its object.
        operation: String,
        /// The reason.
        source: io::Error,
    },
    /// A BPF operation failed.
    #[error("cannot {operation}")]
    Bpf {
        /// The operation and its object.
        operation: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The reason why this machine or user cannot run vipnat.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The kernel is older than vipnat supports.
    #[error(
        "kernel {release:?} is too old; vipnat needs Linux {}.{} or later",
        oldest.0,
        oldest.1
    )]
    KernelTooOld {
        /// The release of the running kernel.
        release: String,
        /// Major and minor of the oldest supported kernel.
        oldest: (u32, u32),
    },
    /// The kernel has no BTF of its own.
    #[error(
        "this kernel has no BTF ({path} is missing); vipnat needs one built with \
         CONFIG_DEBUG_INFO_BTF=y, as every distribution's is"
    )]
    NoBtf {
        /// The file that the kernel would show.
        path: &'static str,
    },
    /// The user lacks privileges. The text names them, and the operation that needs them.
    #[error("missing privileges: {0}")]
    MissingPrivileges(String),
    /// cgroup v2 is not mounted.
    #[error("cgroup v2 is not mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup")]
    NoCgroup2,
    /// Each mount of cgroup v2 is hidden, or shows a part only.
    #[error(
        "no mount shows the whole cgroup v2 hierarchy, so vipnat cannot tell which cgroups exist: {}{hint}",
        reasons.join("; ")
    )]
    PartOfCgroup2 {
        /// Each mount point with the reason.
        reasons: Vec<String>,
        /// How to reach the machine's cgroup namespace, if this is another one.
        hint: &'static str,
    },
}

/// The reason why vipnat may not use a state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Its path has a dot below the mount of bpffs.
    #[error("{}: bpffs allows no dots in names; use another name for --bpffs", .0.display())]
    Dots(PathBuf),
    /// It is on another file system than bpffs.
    #[error(
        "{} is not on a BPF file system; use a directory below {} for --bpffs, or mount one: mount -t \
         bpf bpf DIR",
        .0.display(),
        BPFFS
    )]
    NotBpffs(PathBuf),
    /// It has an entry that vipnat did not make.
    #[error(
        "{} does not belong to vipnat alone: it holds {entry}; remove that, or use another directory for --bpffs",
        dir.display()
    )]
    UnexpectedEntry {
        /// The state directory.
        dir: PathBuf,
        /// The whole path of the entry.
        entry: String,
    },
    /// A path below the directory of apps has a name or a type that vipnat does not give.
    #[error("{} is not vipnat's; remove it", .0.display())]
    NotOurs(PathBuf),
    /// Users other than root may change it.
    #[error(
        "{} can be changed by others than root: it belongs to user {owner} and has mode {mode:03o}; remove \
         it, or use another directory for --bpffs",
        dir.display()
    )]
    OpenToOthers {
        /// The state directory.
        dir: PathBuf,
        /// The id of the user that owns it.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// It was removed, unmounted or hidden while it was in use.
    #[error(
        "{} went away meanwhile: its file system was unmounted, or hidden by another one; run the command \
         again",
        .0.display()
    )]
    Gone(PathBuf),
}

impl Error {
    /// Replaces the error that a path is no directory.
    pub(crate) fn unless_directory(self, other: impl FnOnce() -> Self) -> Self {
        match &self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => other(),
            _ => self,
        }
    }

    /// Whether another try may succeed. It cannot if the kernel lacks the feature.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported)
    }

    /// The apps whose cgroups are not as the table says because of this error.
    pub(crate) fn apps(&self) -> &[String] {
        match self {
            Self::Contested { apps, .. } => apps,
            Self::Unseen { app, .. } => std::slice::from_ref(app),
            _ => &[],
        }
    }

    /// Whether a map is missing, is of another layout, or holds values that this layout does not have.
    pub(crate) fn is_of_another_layout(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
            }
            Self::CorruptMap { .. } | Self::Layout { .. } => true,
            _ => false,
        }
    }
}

/// The result of an operation on the data path.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds the operation to an error.
pub(crate) trait Attempt<T> {
    /// Names the operation and its object, to be read after "cannot".
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
