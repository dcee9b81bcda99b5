//! The state directory that a command works on, and the cgroups as that command sees them.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use crate::{
    kernel::{cgroup::Tree, compat, error::Result, foreign_programs::Others, maps::Maps},
    state::{staging, state_dir::StateDir},
};

/// A state directory, and how apps are attached in it.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The state directory, which need not exist.
    pub(crate) dir: PathBuf,
    /// The cgroup hierarchy as found last.
    tree: RefCell<Option<Tree>>,
    /// Whether vipnat may attach an app if that switches off programs that its cgroup inherits.
    override_inherited: bool,
}

impl Context {
    /// The state in `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tree: RefCell::default(), override_inherited: false }
    }

    /// The same state, with `override_inherited` set to `yes`.
    pub(crate) fn override_inherited(self, yes: bool) -> Self {
        Self { override_inherited: yes, ..self }
    }

    /// The whole cgroup hierarchy. Each call checks that the known mount still shows all of it, since
    /// other processes mount and unmount.
    pub(crate) fn tree(&self) -> Result<Tree> {
        let mut known = self.tree.borrow_mut();
        match known.as_ref().filter(|tree| tree.is_current()) {
            Some(tree) => Ok(tree.clone()),
            None => Ok(known.insert(Tree::find()?).clone()),
        }
    }

    /// The programs of other tools and other vipnats on the cgroups of `tree`.
    pub(crate) fn others<'a>(&self, state: &Path, tree: &'a Tree) -> Others<'a> {
        Others::new(state, tree, self.override_inherited)
    }

    /// Locks and opens the state; `None` if nothing is applied.
    ///
    /// # Errors
    ///
    /// State of another layout; system calls that fail.
    pub(crate) fn open(&self) -> Result<Option<(StateDir, Maps)>> {
        let Some(dir) = StateDir::open(&self.dir)? else {
            return Ok(None);
        };
        if !staging::exists(&dir)? {
            return Ok(None);
        }
        compat::check_layout(dir.path())?;
        let maps = Maps::open(dir.path())?;
        Ok(Some((dir, maps)))
    }
}
