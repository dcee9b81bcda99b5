//! The reasons why a part of the hierarchy is not in view.

use std::{fmt, io, path::Path};

use vipnat_core::text::shown_name;

use crate::kernel::error::Error;

/// The reason why the content of a part of the hierarchy is unknown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unseen(String);

/// The result of reading the hierarchy.
pub(super) type Lookup<T> = Result<T, Unseen>;

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Unseen> for Error {
    fn from(Unseen(reason): Unseen) -> Self {
        Self::NotInView(reason)
    }
}

impl From<&Error> for Unseen {
    fn from(error: &Error) -> Self {
        Self(error.to_string())
    }
}

/// Another mount is on the path.
pub(super) fn hidden(path: &Path) -> Unseen {
    let path = shown_name(path);
    Unseen(format!("{path} is hidden by another mount; unmount that: umount {path}"))
}

/// A system call failed.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Unseen {
    Unseen(format!("cannot read {}: {error}", shown_name(path)))
}
