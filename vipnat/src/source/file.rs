//! A table in a file, which may be replaced in any of the ways in which files are.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// A file.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// A file, which need not exist yet.
    ///
    /// # Errors
    ///
    /// If there is no current directory for the path to be relative to.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directories in whose entries it shows when the path leads to another file, or to the same
    /// one with other contents: those of the file and of each symbolic link on the way, such as the
    /// `..data` that Kubernetes swaps in a mounted ConfigMap. Where the way ends, the last one there is.
    pub fn places_to_watch(&self) -> BTreeSet<PathBuf> {
        let mut places = BTreeSet::new();
        let mut links = 0;
        let mut rest = names(&self.path);
        let mut here = PathBuf::from("/");
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match fs::read_link(&next) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    places.insert(here.clone());
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                _ if rest.is_empty() || !next.is_dir() => {
                    places.insert(here);
                    break;
                }
                _ => here = next,
            }
        }
        places
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
        let places = |path: &str| {
            let places = FileSource::new(&root.join(path)).unwrap().places_to_watch();
            let below = |place: &PathBuf| place.strip_prefix(&root).unwrap().display().to_string();
            places.iter().map(below).collect::<Vec<_>>()
        };
        assert_eq!(places("table.toml"), [""]);
        assert_eq!(places("none/table.toml"), [""]);
        fs::write(root.join("table.toml"), "").unwrap();
        assert_eq!(places("table.toml"), [""]);
        // A ConfigMap.
        fs::create_dir_all(root.join("map/..2026_1")).unwrap();
        fs::write(root.join("map/..2026_1/t.toml"), "").unwrap();
        symlink("..2026_1", root.join("map/..data")).unwrap();
        symlink("..data/t.toml", root.join("map/t.toml")).unwrap();
        assert_eq!(places("map/t.toml"), ["map", "map/..2026_1"]);
        symlink(root.join("map/t.toml"), root.join("link")).unwrap();
        assert_eq!(places("link"), ["", "map", "map/..2026_1"]);
        symlink("../map/../map", root.join("map/up")).unwrap();
        assert_eq!(places("map/up/t.toml"), ["map", "map/..2026_1"]);
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(places("loop"), [""]);
    }
}
