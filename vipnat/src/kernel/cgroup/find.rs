//! Finds the cgroups that a table names or matches.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use vipnat_core::table::{self, Cgroups, Component};

use super::{
    open_tree::OpenTree,
    tree::Tree,
    unseen::{Lookup, Unseen},
};

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
    opened: OnceCell<Lookup<OpenTree>>,
    read: HashMap<PathBuf, Lookup<Rc<table::Names>>>,
}

impl<'a> Names<'a> {
    /// Reads nothing yet.
    pub(crate) fn of(tree: &'a Tree) -> Self {
        Self { tree, opened: OnceCell::new(), read: HashMap::new() }
    }

    fn opened(&self) -> Lookup<&OpenTree> {
        self.opened.get_or_init(|| OpenTree::of(self.tree)).as_ref().map_err(Clone::clone)
    }

    fn right_below(&mut self, path: &Path) -> Lookup<Rc<table::Names>> {
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let names = self.opened().and_then(|opened| opened.names(path));
        let names = names.map(|names| Rc::new(table::Names::from(names)));
        self.read.insert(path.to_owned(), names.clone());
        names
    }
}

/// Finds the cgroups of one app.
pub(crate) fn find(names: &mut Names<'_>, cgroups: &Cgroups) -> Found {
    let mut found = Found::default();
    // Paths that may be cgroups on the way. Only those at the end are looked up, since one on the way that
    // does not exist has nothing below it.
    let mut level = vec![PathBuf::new()];
    for component in cgroups.components() {
        let mut next = Vec::new();
        for below in level {
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
        level = next;
    }
    for below in level {
        match names.opened().and_then(|opened| opened.id(&below)) {
            Ok(Some(id)) => drop(found.cgroups.insert(id, below)),
            Ok(None) => {}
            Err(unseen) => found.unseen.push(unseen),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pattern_finds_what_is_there() {
        let mount = tempfile::tempdir().unwrap();
        for path in ["lxc/shop-1", "lxc/shop-2/inner", "lxc/blog", "other/shop-3"] {
            fs::create_dir_all(mount.path().join(path)).unwrap();
        }
        fs::write(mount.path().join("lxc/shop-file"), "").unwrap();
        let look = |text: &str| {
            let table = format!("[apps.a]\ncgroup = \"{text}\"");
            let table = table::Table::parse(table.as_bytes(), "table", mount.path());
            let cgroups = table.unwrap().apps["a"].cgroup.clone().unwrap();
            let found = find(&mut Names::of(&Tree::of_test(mount.path())), &cgroups);
            assert_eq!(found.unseen, []);
            let found = found.cgroups.into_values();
            let mut found: Vec<_> = found.map(|path| path.display().to_string()).collect();
            found.sort();
            found.join(" ")
        };
        for (text, found) in [
            ("lxc/shop-*", "lxc/shop-1 lxc/shop-2"),
            ("*/shop-?", "lxc/shop-1 lxc/shop-2 other/shop-3"),
            ("lxc/*/inner", "lxc/shop-2/inner"),
            ("lxc/blog", "lxc/blog"),
            ("lxc/none", ""),
            ("none/x/y", ""),
            ("none/*/y", ""),
            ("lxc/shop-file/y", ""),
        ] {
            assert_eq!(look(text), found, "{text}");
        }
    }
}
