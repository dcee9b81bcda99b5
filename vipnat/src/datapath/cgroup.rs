//! Cgroups: which has which id, and where it is.

mod by_id;
mod process;
mod tree;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use self::by_id::Found as FoundById;
pub(super) use self::tree::Unseen;
pub use self::{
    process::{enter, of_process},
    tree::Tree,
};
use super::error::Error;
use crate::table::{self, Cgroups, Component};

/// Where a cgroup is that an app has links on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At this path below the mount.
    At(PathBuf),
    /// It is there, for all that can be told, but not in view. This is its id.
    Unseen(u64),
    /// Nowhere any more.
    Gone,
}

impl Place {
    /// The path below the mount, if it is known.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::At(path) => Some(path),
            Self::Unseen(_) | Self::Gone => None,
        }
    }
}

/// What was found of the cgroups that a table means.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By id: where each is below the mount.
    pub(super) cgroups: BTreeMap<u64, PathBuf>,
    /// Why there may be more.
    pub(super) unseen: Vec<Unseen>,
}

/// Names in directories, each of which is read once, however many apps have patterns for it.
pub(super) struct Names<'a> {
    tree: &'a Tree,
    read: HashMap<PathBuf, Result<Rc<table::Names>, Unseen>>,
}

impl<'a> Names<'a> {
    /// As they are from now on.
    pub(super) fn of(tree: &'a Tree) -> Self {
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

/// The cgroups that a table means. `visit` is told of every directory before it is looked into; in one of
/// these appears what may match later.
pub(super) fn find(
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

/// Where cgroups are, by their ids. The whole hierarchy is only walked through for one that can't be found
/// otherwise: what others have in it may be a lot.
#[derive(Debug)]
pub(super) struct Paths {
    /// `None` if nothing is in view.
    tree: Option<Tree>,
    walked: OnceCell<Walked>,
}

/// What is in view of the whole hierarchy.
#[derive(Debug, Default)]
struct Walked {
    below: HashMap<u64, PathBuf>,
    /// Why there may be more.
    unseen: Vec<Unseen>,
}

impl Walked {
    fn through(tree: &Tree) -> Self {
        let mut paths = Self::default();
        let mut rest = vec![PathBuf::new()];
        while let Some(below) = rest.pop() {
            // A cgroup may go while we look; the others are still worth finding.
            let names = tree.names(&below).unwrap_or_else(|unseen| {
                paths.unseen.push(unseen);
                Vec::new()
            });
            for path in names.into_iter().map(|name| below.join(name)) {
                match tree.id(&path) {
                    Ok(Some(id)) => {
                        paths.below.insert(id, path.clone());
                        rest.push(path);
                    }
                    Ok(None) => {}
                    Err(unseen) => paths.unseen.push(unseen),
                }
            }
        }
        paths
    }
}

impl Paths {
    /// Those of a hierarchy.
    pub(super) fn of(tree: &Tree) -> Self {
        Self { tree: Some(tree.clone()), walked: OnceCell::new() }
    }

    /// Nothing is in view.
    pub(super) fn unseen(error: &Error) -> Self {
        let walked = Walked { below: HashMap::new(), unseen: vec![Unseen::from(error)] };
        Self { tree: None, walked: walked.into() }
    }

    /// Why one that was asked for is not in view, if there was any.
    pub(super) fn reason(&self) -> Option<&Unseen> {
        self.walked.get()?.unseen.first()
    }

    /// Where a cgroup is. A cgroup is never moved, so one that is nowhere in the whole hierarchy is gone,
    /// whatever its links say: these name it for a moment after it was removed, and name none if somebody
    /// detached them from one that lives.
    pub(super) fn place(&self, id: u64) -> Place {
        match self.tree.as_ref().map(|tree| tree.find_by_id(id)) {
            Some(FoundById::At(path)) => return Place::At(path),
            Some(FoundById::Nowhere) => return Place::Gone,
            Some(FoundById::Unknown) | None => {}
        }
        let tree = self.tree.as_ref();
        let walk = || tree.map(Walked::through).unwrap_or_default();
        let Walked { below, unseen } = self.walked.get_or_init(walk);
        match below.get(&id) {
            Some(path) => {
                tree.inspect(|tree| tree.remember(id, path));
                Place::At(path.clone())
            }
            None if unseen.is_empty() => Place::Gone,
            None => Place::Unseen(id),
        }
    }
}

/// `None` for what is not there, or went while it was read, which a cgroup calls ENODEV.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
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

    #[test]
    fn what_can_not_be_seen_is_not_gone() {
        let below = HashMap::from([(7, PathBuf::from("shop"))]);
        let walked = |below, unseen| Paths { tree: None, walked: Walked { below, unseen }.into() };
        let whole = walked(below.clone(), Vec::new());
        assert_eq!(whole.place(7), Place::At("shop".into()));
        assert_eq!(whole.place(8), Place::Gone, "the link names it for a moment more");
        let unseen = vec![Unseen::from(&Error::Refused("hidden".to_owned()))];
        let part = walked(below, unseen);
        assert_eq!(part.place(8), Place::Unseen(8), "whatever the link says");
    }
}
