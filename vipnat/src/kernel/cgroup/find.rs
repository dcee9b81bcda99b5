//! Finds the cgroups that a table names or matches.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use vipnat_core::table::{self, Cgroups, Component};

use super::{tree::Tree, unseen::Unseen};

/// The cgroups of one app, as far as they are in view.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The path of each below the mount, by id.
    pub(crate) cgroups: BTreeMap<u64, PathBuf>,
    /// The reasons why there may be more.
    pub(crate) unseen: Vec<Unseen>,
}

/// The names in directories. It reads each directory once, even if several apps have patterns for it.
pub(crate) struct Names<'a> {
    tree: &'a Tree,
    read: HashMap<PathBuf, Result<Rc<table::Names>, Unseen>>,
}

impl<'a> Names<'a> {
    /// Reads nothing yet.
    pub(crate) fn of(tree: &'a Tree) -> Self {
        Self { tree, read: HashMap::new() }
    }

    fn right_below(&mut self, path: &Path) -> Result<Rc<table::Names>, Unseen> {
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let names = self.tree.names(path).map(|names| Rc::new(table::Names::from(names)));
        self.read.insert(path.to_owned(), names.clone());
        names
    }
}

/// Finds the cgroups of one app. It calls `visit` with every directory before it reads it: cgroups that
/// match later appear in one of these.
pub(crate) fn find(
    names: &mut Names<'_>,
    cgroups: &Cgroups,
    mut visit: impl FnMut(&Path),
) -> Found {
    let tree = names.tree;
    let mut found = Found::default();
    let mut level = vec![(PathBuf::new(), None)];
    for component in cgroups.components() {
        let mut next = Vec::new();
        for (below, _) in level {
            visit(&tree.mount().join(&below));
            match component {
                Component::Name(name) => next.push(below.join(name)),
                Component::Pattern(_) => match names.right_below(&below) {
                    Ok(names) => {
                        let matching = component.among(&names).into_iter();
                        next.extend(matching.map(|name| below.join(name)));
                    }
                    Err(unseen) => found.unseen.push(unseen),
                },
            }
        }
        level = Vec::new();
        for below in next {
            match tree.id(&below) {
                Ok(Some(id)) => level.push((below, Some(id))),
                Ok(None) => {}
                Err(unseen) => found.unseen.push(unseen),
            }
        }
    }
    let level = level.into_iter().filter_map(|(below, id)| Some((id?, below)));
    found.cgroups = level.collect();
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pattern_finds_what_is_there_and_where_to_look_later() {
        let mount = tempfile::tempdir().unwrap();
        for path in ["lxc/shop-1", "lxc/shop-2/inner", "lxc/blog", "other/shop-3"] {
            fs::create_dir_all(mount.path().join(path)).unwrap();
        }
        fs::write(mount.path().join("lxc/shop-file"), "").unwrap();
        let look = |text: &str| {
            let table = format!("[apps.a]\ncgroup = \"{text}\"");
            let table = table::Table::parse(table.as_bytes(), "table", mount.path());
            let cgroups = table.unwrap().apps["a"].cgroup.clone().unwrap();
            let mut visited = Vec::new();
            let found = find(&mut Names::of(&Tree::of_test(mount.path())), &cgroups, |path| {
                visited.push(path.strip_prefix(mount.path()).unwrap().display().to_string());
            });
            assert_eq!(found.unseen, []);
            let found = found.cgroups.into_values();
            let mut found: Vec<_> = found.map(|path| path.display().to_string()).collect();
            found.sort();
            (found.join(" "), visited.join(" "))
        };
        let pair = |found: &str, visited: &str| (found.to_owned(), visited.to_owned());
        assert_eq!(look("lxc/shop-*"), pair("lxc/shop-1 lxc/shop-2", " lxc"));
        assert_eq!(look("*/shop-?"), pair("lxc/shop-1 lxc/shop-2 other/shop-3", " lxc other"));
        assert_eq!(
            look("lxc/*/inner"),
            pair("lxc/shop-2/inner", " lxc lxc/blog lxc/shop-1 lxc/shop-2")
        );
        assert_eq!(look("lxc/blog"), pair("lxc/blog", " lxc"));
        assert_eq!(look("lxc/none"), pair("", " lxc"));
        assert_eq!(look("none/x/y"), pair("", ""));
    }
}
