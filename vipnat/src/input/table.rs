//! Reads a file, and checks the table in it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use vipnat_core::table::Table;

use super::file::{display_name, read_input};
use crate::kernel::cgroup::Tree;

/// Reads and checks a table; `-` is standard input.
pub(crate) fn parse_table(path: &Path) -> Result<Table> {
    let bytes = read_input(path)?;
    Ok(Table::parse(&bytes, &display_name(path), &cgroup_mount())?)
}

/// The mount point of cgroup v2, with which absolute paths of cgroups begin. Without one in view it is
/// the usual path, so that a table can still be checked.
pub(crate) fn cgroup_mount() -> PathBuf {
    let tree = Tree::find();
    tree.map_or_else(|_| PathBuf::from("/sys/fs/cgroup"), |tree| tree.mount().to_owned())
}
