//! Finds the paths of cgroups by their ids.

use std::{cell::OnceCell, collections::HashMap, path::PathBuf};

use vipnat_core::model::Place;

use super::{by_id::Found as FoundById, tree::Tree, unseen::Unseen};
use crate::kernel::error::Error;

/// Finds cgroups by their ids. It walks through the whole hierarchy only for a cgroup that it cannot find
/// otherwise, since others may have many cgroups there.
#[derive(Debug)]
pub(crate) struct Paths {
    /// `None` if nothing is in view.
    tree: Option<Tree>,
    walked: OnceCell<Walked>,
}

/// All cgroups in view.
#[derive(Debug, Default)]
struct Walked {
    below: HashMap<u64, PathBuf>,
    /// The reasons why there may be more.
    unseen: Vec<Unseen>,
}

impl Walked {
    fn through(tree: &Tree) -> Self {
        let mut paths = Self::default();
        let mut rest = vec![PathBuf::new()];
        while let Some(below) = rest.pop() {
            // This cgroup may be removed meanwhile; the others still count.
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
    /// In a hierarchy.
    pub(crate) fn of(tree: &Tree) -> Self {
        Self { tree: Some(tree.clone()), walked: OnceCell::new() }
    }

    /// With no hierarchy in view, for this reason.
    pub(crate) fn unseen(error: &Error) -> Self {
        let walked = Walked { below: HashMap::new(), unseen: vec![Unseen::from(error)] };
        Self { tree: None, walked: walked.into() }
    }

    /// The reason why a cgroup that was looked for is not in view, if there was one.
    pub(crate) fn reason(&self) -> Option<&Unseen> {
        self.walked.get()?.unseen.first()
    }

    /// The place of a cgroup. The kernel never moves cgroups, so a cgroup that is nowhere in the whole
    /// hierarchy is gone. Its links prove nothing: they name it for a moment after it was removed. If a
    /// process detached them, they name none, although the cgroup exists.
    pub(crate) fn place(&self, id: u64) -> Place {
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

#[cfg(test)]
mod tests {
    use super::*;

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
