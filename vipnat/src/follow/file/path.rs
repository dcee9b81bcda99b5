//! The path of the table's file, and the directory entries whose change may change the file.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The path of the table's file.
#[derive(Clone, Debug)]
pub(super) struct TablePath {
    path: PathBuf,
}

impl TablePath {
    /// The file need not exist yet.
    ///
    /// # Errors
    ///
    /// If the path is relative and there is no current directory.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)? })
    }

    /// The absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory entries whose change may lead the path to another file, or change its contents.
    ///
    /// These are the file and each directory and symbolic link on the way, such as the `..data` that
    /// Kubernetes swaps in a mounted ConfigMap. If some are missing, the first missing one is the last entry.
    pub(super) fn entries_to_watch(&self) -> BTreeSet<PathBuf> {
        let mut entries = BTreeSet::new();
        let mut links = 0;
        let mut rest = names(&self.path);
        let mut here = PathBuf::from("/");
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            entries.insert(next.clone());
            match fs::read_link(&next) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                _ if rest.is_empty() || !next.is_dir() => break,
                _ => here = next,
            }
        }
        entries
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let entries = |path: &str| {
            let entries = TablePath::new(&root.join(path)).unwrap().entries_to_watch();
            assert!(entries.contains(&root), "directories as well: {entries:?}");
            let below = entries.iter().filter_map(|entry| entry.strip_prefix(&root).ok());
            let below = below.map(|entry| entry.display().to_string());
            below.filter(|entry| !entry.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(entries("table.toml"), ["table.toml"]);
        assert_eq!(entries("none/table.toml"), ["none"]);
        fs::write(root.join("table.toml"), "").unwrap();
        assert_eq!(entries("table.toml"), ["table.toml"]);
        // A ConfigMap.
        fs::create_dir_all(root.join("map/..2026_1")).unwrap();
        fs::write(root.join("map/..2026_1/t.toml"), "").unwrap();
        symlink("..2026_1", root.join("map/..data")).unwrap();
        symlink("..data/t.toml", root.join("map/t.toml")).unwrap();
        let map = ["map", "map/..2026_1", "map/..2026_1/t.toml", "map/..data", "map/t.toml"];
        assert_eq!(entries("map/t.toml"), map);
        symlink(root.join("map/t.toml"), root.join("link")).unwrap();
        assert_eq!(entries("link"), [&["link"][..], &map].concat());
        symlink("../map/../map", root.join("map/up")).unwrap();
        assert_eq!(entries("map/up/t.toml"), [&map[..], &["map/up"]].concat());
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(entries("loop"), ["loop"]);
    }
}
