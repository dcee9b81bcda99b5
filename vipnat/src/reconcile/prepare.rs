//! The difference between what is desired and what is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use rustc_hash::FxHashSet;

use crate::{
    kernel::{
        cgroup::{Paths, Tree},
        error::Result,
        maps::Maps,
        others::Others,
    },
    state::links::{self, AttachedApp},
};
use vipnat_common::AppId;
use vipnat_core::model::NameIndex;
use vipnat_core::{
    model::{Change, Desired, Place, Snapshot},
    plan::{self, MappingChange, Plan},
};

/// What is to be done, and how people are told.
pub(crate) struct Work {
    pub(crate) plan: Plan,
    pub(crate) changes: Vec<Change>,
    pub(crate) attach: Vec<Attach>,
    /// The app that each cgroup is to belong to, by cgroup id.
    pub(crate) owners: HashMap<u64, String>,
    /// The app id of every app there is to be.
    pub(crate) app_ids: BTreeMap<String, AppId>,
    /// Whether there are directories of apps that are no app's, which go.
    pub(crate) strays: bool,
    /// What stays as it is, because it is not in view.
    pub(crate) unseen: Vec<String>,
}

/// An app to attach to a cgroup.
pub(crate) struct Attach {
    pub(crate) app: String,
    pub(crate) app_id: AppId,
    pub(crate) cgroup: u64,
    pub(crate) path: PathBuf,
    /// It is the app's by its path, not by a pattern.
    pub(crate) named: bool,
    /// It is the app's by hand.
    pub(crate) by_hand: bool,
}

/// What there is, as far as it matters here.
pub(crate) struct Present<'a> {
    pub(crate) maps: Option<&'a Maps>,
    pub(crate) now: &'a Snapshot,
    pub(crate) attached: &'a [AttachedApp],
    /// The highest app id that was ever given.
    pub(crate) last_app: u32,
    pub(crate) names: &'a NameIndex,
    pub(crate) others: &'a Others<'a>,
}

impl Attach {
    /// Whether the cgroup is still there, for all that can be told.
    pub(crate) fn is_there(&self, tree: &Tree) -> bool {
        let below = tree.below(&self.path).unwrap_or(Path::new(""));
        tree.id(below).map_or(true, |found| found == Some(self.cgroup))
    }
}

impl Work {
    /// Compares.
    ///
    /// # Errors
    ///
    /// [`Error::Full`](super::Error::Full); maps that can't be read.
    pub(crate) fn new(desired: &Desired, present: &Present<'_>) -> Result<Self> {
        let Present { maps, now, attached, last_app, names: old, others } = *present;
        let Desired { apps, names: new } = desired;
        let by_name = links::current(attached);
        let mut free = FreeAppIds::new(now, attached, last_app);
        let mut app_ids = BTreeMap::new();
        let mut names: BTreeMap<AppId, &str> =
            attached.iter().map(|app| (app.app_id, app.name.as_str())).collect();
        let gone: BTreeSet<_> =
            attached.iter().map(|app| &app.name).filter(|name| !apps.contains_key(*name)).collect();
        let mut changes: Vec<_> =
            gone.into_iter().map(|name| Change::Detach { app: name.clone() }).collect();
        let mut mappings = Vec::new();
        for (name, app) in apps {
            let existing = by_name.get(name.as_str());
            let app_id = existing.map_or_else(|| free.take(), |app| app.app_id);
            app_ids.insert(name.clone(), app_id);
            names.insert(app_id, name);
            mappings.extend(app.mappings.iter().map(|rule| rule.of_app(app_id)));
            if existing.is_none() && app.cgroups.is_empty() {
                changes.push(Change::Expect { app: name.clone() });
            }
        }
        let (mut attach, mut owners, mut unseen) = (Vec::new(), HashMap::new(), Vec::new());
        let mut seen = Seen { tree: others.tree(), paths: None };
        for claim in claims(desired, attached, &mut seen) {
            let Claim { app, cgroup, below, named, by_hand } = claim;
            owners.insert(cgroup, app.to_owned());
            let app_id = app_ids[app];
            let Some(below) = below else {
                unseen.push(seen.stays(app, cgroup));
                continue;
            };
            let on = match maps {
                Some(maps) => maps.cgroups().app_of(cgroup)? == Some(app_id),
                None => false,
            };
            let path = seen.tree.mount().join(&below);
            let existing = by_name.get(app).filter(|app| on && app.is_attached_to(cgroup));
            let settled = match existing.and_then(|app| app.held(cgroup)) {
                Some(held) => others.is_alone(&path, held)?,
                None => false,
            };
            if !settled {
                let app = app.to_owned();
                changes.push(Change::Attach { app: app.clone(), cgroup: below, id: cgroup });
                attach.push(Attach { app, app_id, cgroup, path, named, by_hand });
            }
        }
        changes.extend(left_cgroups(desired, attached, &owners, &mut seen));
        let plan = Plan::new(now, &mappings, |_| true)?;
        changes.extend(plan::changes(now, &mappings, &plan).into_iter().map(|change| {
            let MappingChange { app_id, vip, old: from, new: to } = change;
            let app =
                names.get(&app_id).map_or(format!("(scope {app_id})"), |name| (*name).to_owned());
            let relationship =
                new.relationships(&app, vip).or_else(|| old.relationships(&app, vip));
            Change::Vip { app, relationship, vip, old: from, new: to }
        }));
        let strays = by_name.len() < attached.len();
        Ok(Self { plan, changes, attach, owners, app_ids, strays, unseen })
    }

    /// Whether an app is to leave a cgroup that is there, for all that can be told.
    pub(crate) fn releases(&self) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Leave { cgroup, .. } => *cgroup != Place::Gone,
            Change::Detach { .. } => true,
            _ => false,
        })
    }

    /// Whether a directory of an app is the one that it keeps.
    pub(crate) fn keeps(&self, app: &AttachedApp) -> bool {
        self.app_ids.get(&app.name) == Some(&app.app_id) && app.is_at_home()
    }
}

/// A cgroup that is to be an app's.
struct Claim<'a> {
    app: &'a str,
    cgroup: u64,
    /// Below the mount; `None` if it is not in view, and so stays as it is.
    below: Option<PathBuf>,
    named: bool,
    by_hand: bool,
}

/// The cgroups in view, which are only looked at if one is asked for by its id.
struct Seen<'a> {
    tree: &'a Tree,
    paths: Option<Paths>,
}

impl Seen<'_> {
    fn paths(&mut self) -> &Paths {
        self.paths.get_or_insert_with(|| Paths::of(self.tree))
    }

    /// Why a cgroup stays attached that is not in view.
    fn stays(&mut self, app: &str, cgroup: u64) -> String {
        let reason = self.paths().reason().map(ToString::to_string).unwrap_or_default();
        format!(
            "app {app:?} stays attached to the cgroup whose id is {cgroup}, which is not in view: \
             {reason}"
        )
    }
}

/// All cgroups that are to be some app's: those desired, what was attached by hand, as long as the app and
/// the cgroup are there, and what is attached and may be desired, but is not in view. A path says more than a
/// hand, which says more than a pattern.
fn claims<'a>(
    desired: &'a Desired,
    attached: &'a [AttachedApp],
    seen: &mut Seen<'_>,
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
            let below = match seen.paths().place(cgroup) {
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
            if !claims.contains_key(&cgroup)
                && matches!(seen.paths().place(cgroup), Place::Unseen(_))
            {
                let (app, below) = (app.name.as_str(), None);
                claims.insert(cgroup, Claim { app, cgroup, below, named: false, by_hand: false });
            }
        }
    }
    // One app in nested cgroups would be in the way of itself: what its inner hook did, its outer one would
    // take for an address that is no VIP.
    let claims: Vec<_> = claims.into_values().collect();
    let places: HashSet<_> = claims.iter().map(|claim| (claim.app, claim.below.clone())).collect();
    let inside = |claim: &Claim<'_>| {
        let mut outer = claim.below.iter().flat_map(|below| below.ancestors().skip(1));
        outer.any(|outer| places.contains(&(claim.app, Some(outer.to_owned()))))
    };
    claims.into_iter().filter(|claim| !inside(claim)).collect()
}

/// The cgroups that apps which stay have links on and that are nobody's any more.
fn left_cgroups(
    desired: &Desired,
    attached: &[AttachedApp],
    owners: &HashMap<u64, String>,
    seen: &mut Seen<'_>,
) -> Vec<Change> {
    let mut left = Vec::new();
    for app in attached.iter().filter(|app| desired.apps.contains_key(&app.name)) {
        for cgroup in app.cgroups().filter(|cgroup| !owners.contains_key(cgroup)) {
            let cgroup = seen.paths().place(cgroup);
            left.push(Change::Leave { app: app.name.clone(), cgroup });
        }
    }
    left
}

/// Scopes that no app ever had, lowest first, nor has any entry or slot: a socket may keep flows of an
/// app that is gone, and must not take them to another one.
struct FreeAppIds<'a> {
    now: &'a Snapshot,
    attached: &'a [AttachedApp],
    taken: Option<FxHashSet<AppId>>,
    next: u32,
}

impl<'a> FreeAppIds<'a> {
    fn new(now: &'a Snapshot, attached: &'a [AttachedApp], last: u32) -> Self {
        Self { now, attached, taken: None, next: last.checked_add(1).unwrap_or(1) }
    }

    fn take(&mut self) -> AppId {
        let taken = self.taken.get_or_insert_with(|| {
            let entries = self.now.entries.keys().map(|key| key.app_id());
            let slots = self.now.slots.iter().flatten().map(|slot| slot.owner.app_id());
            let attached = self.attached.iter().map(|app| app.app_id);
            attached.chain(entries).chain(slots).collect()
        });
        loop {
            let app_id = AppId(self.next);
            // Only foreign hands can have written that the last number of all was given; then it goes on
            // from the first. 0 is "no app".
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !taken.contains(&app_id) {
                return app_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipnat_core::model::Capacity;

    #[test]
    fn no_app_is_given_id_0_whatever_the_last_one_was() {
        let now = Snapshot::fresh(Capacity::MIN);
        for (last, expected) in [
            (0, [1, 2, 3]),
            (7, [8, 9, 10]),
            (u32::MAX - 2, [u32::MAX - 1, u32::MAX, 1]),
            (u32::MAX, [1, 2, 3]),
        ] {
            let mut free = FreeAppIds::new(&now, &[], last);
            assert_eq!([(); 3].map(|()| free.take().0), expected, "{last}");
        }
    }
}
