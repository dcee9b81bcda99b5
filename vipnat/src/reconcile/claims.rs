//! Decides which app should get which cgroup. It uses the table, `vipnat attach`, and the cgroups that are
//! attached but not in view.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
};

use vipnat_core::model::{Change, Desired, Place};

use crate::{
    kernel::cgroup::{Paths, Tree},
    state::links::AttachedApp,
};

/// A cgroup that an app should have.
pub(crate) struct Claim<'a> {
    pub(crate) app: &'a str,
    pub(crate) cgroup: u64,
    /// Its path below the mount; `None` if the cgroup is not in view. It then stays as it is.
    pub(crate) below: Option<PathBuf>,
    /// The table gives it to the app by a path, not by a pattern.
    pub(crate) named: bool,
    /// `vipnat attach` gave it to the app.
    pub(crate) by_hand: bool,
}

/// The places of cgroups, by id. It searches the hierarchy only when a caller asks for an id.
pub(crate) struct CgroupPlaces<'a> {
    tree: &'a Tree,
    paths: Option<Paths>,
}

impl<'a> CgroupPlaces<'a> {
    /// Has searched nothing yet.
    pub(crate) fn new(tree: &'a Tree) -> Self {
        Self { tree, paths: None }
    }

    fn place(&mut self, cgroup: u64) -> Place {
        self.paths().place(cgroup)
    }

    fn paths(&mut self) -> &Paths {
        self.paths.get_or_insert_with(|| Paths::of(self.tree))
    }

    /// The message for a cgroup that stays attached because it is not in view.
    pub(crate) fn stays_attached(&mut self, app: &str, cgroup: u64) -> String {
        let reason = self.paths().reason().map(ToString::to_string).unwrap_or_default();
        format!(
            "app {app:?} stays attached to the cgroup whose id is {cgroup}, which is not in view: \
             {reason}"
        )
    }
}

/// All cgroups that an app should have. These are the cgroups of the table, and those attached by hand, while
/// the app and the cgroup exist. Attached cgroups that are not in view count too, if the table may mean
/// them. A path in the table takes precedence over `vipnat attach`, which takes precedence over a pattern.
pub(crate) fn claims<'a>(
    desired: &'a Desired,
    attached: &'a [AttachedApp],
    places: &mut CgroupPlaces<'_>,
) -> Vec<Claim<'a>> {
    let mut claims = BTreeMap::new();
    for (app, wanted) in &desired.apps {
        for (cgroup, below) in &wanted.cgroups {
            let (named, by_hand) = (wanted.named.contains(cgroup), wanted.by_hand.contains(cgroup));
            let below = Some(below.clone());
            claims.insert(*cgroup, Claim { app, cgroup: *cgroup, below, named, by_hand });
        }
    }
    for app in attached {
        let Some(wanted) = desired.apps.get(&app.name) else {
            continue;
        };
        for cgroup in app.by_hand() {
            let below = match places.place(cgroup) {
                Place::At(below) => Some(below),
                Place::Unseen(_) => None,
                Place::Gone => continue,
            };
            let claim = Claim { app: &app.name, cgroup, below, named: false, by_hand: true };
            if claims.get(&cgroup).is_none_or(|other: &Claim<'_>| !other.named) {
                claims.insert(cgroup, claim);
            }
        }
        for cgroup in app.cgroups().filter(|_| wanted.may_have_unseen) {
            if !claims.contains_key(&cgroup) && matches!(places.place(cgroup), Place::Unseen(_)) {
                let (app, below) = (app.name.as_str(), None);
                claims.insert(cgroup, Claim { app, cgroup, below, named: false, by_hand: false });
            }
        }
    }
    // An app must not be attached to two nested cgroups: its inner hook rewrites the address, and its
    // outer hook would then see an address that is no VIP.
    let claims: Vec<_> = claims.into_values().collect();
    let all: HashSet<_> = claims.iter().map(|claim| (claim.app, claim.below.clone())).collect();
    let inside = |claim: &Claim<'_>| {
        let mut outer = claim.below.iter().flat_map(|below| below.ancestors().skip(1));
        outer.any(|outer| all.contains(&(claim.app, Some(outer.to_owned()))))
    };
    claims.into_iter().filter(|claim| !inside(claim)).collect()
}

/// The cgroups on which an app that stays has links, but which no app should have any more.
pub(crate) fn unclaimed(
    desired: &Desired,
    attached: &[AttachedApp],
    owners: &HashMap<u64, String>,
    places: &mut CgroupPlaces<'_>,
) -> Vec<Change> {
    let mut left = Vec::new();
    for app in attached.iter().filter(|app| desired.apps.contains_key(&app.name)) {
        for cgroup in app.cgroups().filter(|cgroup| !owners.contains_key(cgroup)) {
            let cgroup = places.place(cgroup);
            left.push(Change::Leave { app: app.name.clone(), cgroup });
        }
    }
    left
}
