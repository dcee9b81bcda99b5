//! The hierarchy with its root opened, for many lookups in a row.
//!
//! A lookup through [`Tree`] opens the root and proves that it is the root. That is most of its cost. An
//! opened root stays the root of the same mount, whatever other processes mount meanwhile.

use std::{ffi::OsString, fs::File, os::fd::OwnedFd, path::Path};

use super::{tree::Tree, unseen::Lookup};

/// The hierarchy with its root opened. Not for keeping: another mount may be the one in view later.
#[derive(Debug)]
pub(crate) struct OpenTree {
    tree: Tree,
    root: File,
}

impl OpenTree {
    /// Opens the root.
    ///
    /// # Errors
    ///
    /// The root is not in view.
    pub(crate) fn of(tree: &Tree) -> Lookup<Self> {
        Ok(Self { root: tree.root()?, tree: tree.clone() })
    }

    /// The mount point.
    pub(crate) fn mount(&self) -> &Path {
        self.tree.mount()
    }

    /// Opens a cgroup, for queries but not for reading, and returns its id; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// It is unknown whether the cgroup exists.
    pub(crate) fn open(&self, below: &Path) -> Lookup<Option<(OwnedFd, u64)>> {
        let opened = self.tree.open_from(&self.root, below)?;
        Ok(opened.map(|(opened, seen)| (opened, seen.inode)))
    }

    /// As [`Tree::id`].
    pub(crate) fn id(&self, below: &Path) -> Lookup<Option<u64>> {
        self.tree.id_from(&self.root, below)
    }

    /// As [`Tree::names`].
    pub(crate) fn names(&self, below: &Path) -> Lookup<Vec<OsString>> {
        self.tree.names_from(&self.root, below)
    }
}
