//! Checks the cgroup of an app.

use std::path::{Component, Path as FilePath, PathBuf};

use super::checker::Checker;
use crate::{
    table::{key_path::KeyPathRef, model::Cgroups},
    text::quoted,
};

impl Checker<'_> {
    /// The cgroups that a path or pattern names, below the mount.
    pub(super) fn cgroup(&mut self, path: &KeyPathRef<'_>, text: &str) -> Option<Cgroups> {
        let mount = self.cgroup_mount;
        let below = if text.starts_with('/') {
            FilePath::new(text).strip_prefix(mount).ok()
        } else {
            Some(FilePath::new(text))
        };
        let Some(below) = below.filter(|below| !has_parent(below)) else {
            self.problem(
                path,
                format!(
                    "cgroup {} is not below the cgroup v2 mount {}",
                    quoted(text),
                    mount.display()
                ),
                "name a cgroup below it, such as \"shop.slice/shop\", without \"..\"",
            );
            return None;
        };
        if text.contains('\0') {
            self.problem(path, "a cgroup path with a zero byte", "remove it");
            return None;
        }
        let below: PathBuf = below.components().filter(|c| *c != Component::CurDir).collect();
        if below == PathBuf::new() || below == FilePath::new("*") {
            self.problem(
                path,
                format!("cgroup {} is the whole machine", quoted(text)),
                "name the cgroup of one container",
            );
            return None;
        }
        match Cgroups::parse(&below) {
            Ok(cgroups) => Some(cgroups),
            Err(reason) => {
                self.problem(
                    path,
                    format!("cgroup pattern {}: {reason}", quoted(text)),
                    "use * for any part of one name, as in \"lxc/shop-*\", ? for one character, \
                     [a-z] for one of some",
                );
                None
            }
        }
    }
}

fn has_parent(path: &FilePath) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}
