//! Reads the programs on the hooks of cgroups, each cgroup above others only once.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use vipnat_common::hooks::HOOKS;
use vipnat_core::text::shown_name;

use crate::kernel::{
    cgroup::Tree,
    error::{Attempt as _, Result},
    hook_query::{self, OnHook},
};

/// The programs on each hook of a cgroup itself, in the order of [`HOOKS`].
pub(crate) type OnCgroup = Arc<[OnHook; HOOKS.len()]>;

/// The programs on the hooks of cgroups.
pub(super) struct Attached<'a> {
    tree: &'a Tree,
    /// Cgroups above others; `None` if the kernel refuses the query.
    above: RefCell<HashMap<PathBuf, Option<OnCgroup>>>,
    /// Whether the kernel refused a query.
    refused: Cell<bool>,
}

impl<'a> Attached<'a> {
    /// Reads nothing yet.
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self { tree, above: RefCell::default(), refused: Cell::new(false) }
    }

    /// The hierarchy.
    pub(super) fn tree(&self) -> &'a Tree {
        self.tree
    }

    /// Whether the kernel refused a query, which it does without CAP_NET_ADMIN.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get()
    }

    /// Forgets the cgroups that it read.
    pub(super) fn forget(&self) {
        self.above.borrow_mut().clear();
    }

    /// The cgroups above a cgroup, upwards, with the programs on each.
    pub(super) fn above(&self, path: &Path) -> Result<Vec<(PathBuf, OnCgroup)>> {
        let mut known = self.above.borrow_mut();
        let mut above = Vec::new();
        for outer in
            path.ancestors().skip(1).take_while(|outer| outer.starts_with(self.tree.mount()))
        {
            let on = match known.get(outer) {
                Some(on) => on.clone(),
                None => {
                    let on = self.on_cgroup(outer)?;
                    known.insert(outer.to_owned(), on.clone());
                    on
                }
            };
            above.extend(on.map(|on| (outer.to_owned(), on)));
        }
        Ok(above)
    }

    /// The programs on a cgroup itself; `None` if the kernel refuses the query, or the cgroup is gone.
    pub(super) fn on_cgroup(&self, path: &Path) -> Result<Option<OnCgroup>> {
        let directory = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.attempt(|| what(path))?,
        };
        self.on_opened((path, directory.as_fd()))
    }

    /// The programs on an opened cgroup itself; `None` if the kernel refuses the query.
    pub(super) fn on_opened(
        &self,
        (path, cgroup): (&Path, BorrowedFd<'_>),
    ) -> Result<Option<OnCgroup>> {
        let mut all: [OnHook; HOOKS.len()] = Default::default();
        for ((_, attach_type), on) in HOOKS.iter().zip(&mut all) {
            match hook_query::query(cgroup, *attach_type) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refused.set(true);
                    return Ok(None);
                }
                found => *on = found.attempt(|| what(path))?,
            }
        }
        Ok(Some(Arc::new(all)))
    }

    /// Whether just these programs are on an opened cgroup itself.
    pub(super) fn is_as(
        &self,
        (path, cgroup): (&Path, BorrowedFd<'_>),
        programs: &OnCgroup,
    ) -> Result<bool> {
        for ((_, attach_type), on) in HOOKS.iter().zip(programs.iter()) {
            match hook_query::is_as(cgroup, *attach_type, on) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refused.set(true);
                    return Ok(false);
                }
                same => {
                    if !same.attempt(|| what(path))? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn what(path: &Path) -> String {
    format!("read what is attached to {}", shown_name(path))
}
