//! Compares the desired state with the observed state. Changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use vipnat_common::AppId;
use vipnat_core::{
    model::{Change, Desired, Mapping, Place},
    plan::{self, MappingChange, Plan},
};

use super::{
    app_ids::FreeAppIds,
    claims::{CgroupPlaces, Claim, claims, unclaimed},
    observe::{Observed, ObservedApps},
};
use crate::{
    kernel::{cgroup::Tree, error::Result},
    state::links::{self, AttachedApp},
};

/// The difference between the desired state and the observed state, for the kernel and for people.
pub(crate) struct Diff {
    /// The writes to the maps.
    pub(crate) plan: Plan,
    /// The changes, for people.
    pub(crate) changes: Vec<Change>,
    /// The attachments to make.
    pub(crate) attach: Vec<Attachment>,
    /// The app that should get each cgroup, by cgroup id.
    pub(crate) owners: HashMap<u64, String>,
    /// The app id of each desired app.
    pub(crate) app_ids: BTreeMap<String, AppId>,
    /// Whether there are directories of apps that belong to no app. vipnat removes them.
    pub(crate) strays: bool,
    /// Messages about cgroups that stay as they are because they are not in view.
    pub(crate) unseen: Vec<String>,
}

/// An app to attach to a cgroup.
pub(crate) struct Attachment {
    pub(crate) app: String,
    pub(crate) app_id: AppId,
    pub(crate) cgroup: u64,
    pub(crate) path: PathBuf,
    /// The table gives the cgroup to the app by a path, not by a pattern.
    pub(crate) named: bool,
    /// `vipnat attach` gave it to the app.
    pub(crate) by_hand: bool,
}

impl Attachment {
    /// Whether the cgroup still exists. If that is unknown, it counts as existing.
    pub(crate) fn is_there(&self, tree: &Tree) -> bool {
        let below = tree.below(&self.path).unwrap_or(Path::new(""));
        tree.id(below).map_or(true, |found| found == Some(self.cgroup))
    }
}

impl Diff {
    /// Compares the two states.
    ///
    /// # Errors
    ///
    /// [`Error::Full`](crate::kernel::error::Error::Full) if the observed maps have no room for the new
    /// slots; cgroups that are not in view.
    pub(crate) fn new(desired: &Desired, observed: &Observed<'_>) -> Result<Self> {
        let Observed { snapshot, apps: ObservedApps { attached, .. } } = observed;
        let current = links::current(attached);
        let app_ids = app_ids(desired, observed, &current);
        let mappings = desired.apps.iter().flat_map(|(name, app)| {
            let app_id = app_ids[name];
            app.mappings.iter().map(move |mapping| mapping.of_app(app_id))
        });
        let mappings: Vec<_> = mappings.collect();
        // Compute the plan first, since this may fail. The rest asks the kernel about each cgroup.
        let plan = Plan::new(snapshot, &mappings, |_| true)?;
        let Attachments { attach, changes: attachment_changes, owners, unseen } =
            Attachments::new(desired, observed.apps, &current, &app_ids)?;
        let mut changes = app_changes(desired, attached, &current);
        changes.extend(attachment_changes);
        changes.extend(mapping_changes(desired, observed, &app_ids, &mappings, &plan));
        let strays = current.len() < attached.len();
        Ok(Self { plan, changes, attach, owners, app_ids, strays, unseen })
    }

    /// Whether an app should leave a cgroup that exists. If that is unknown, the cgroup counts as existing.
    pub(crate) fn releases(&self) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Leave { cgroup, .. } => *cgroup != Place::Gone,
            Change::Detach { .. } => true,
            _ => false,
        })
    }

    /// Whether this changes anything that a process may know from the change before: the maps, the apps, or
    /// which app has which cgroup.
    pub(crate) fn is_change(&self, attached: &[AttachedApp]) -> bool {
        let kept = attached.iter().filter(|app| self.keeps(app)).count();
        let moves = |change: &Change| matches!(change, Change::Leave { .. });
        self.plan != Plan::default()
            || kept < attached.len()
            || kept < self.app_ids.len()
            || !self.attach.is_empty()
            || self.changes.iter().any(moves)
    }

    /// Whether an app keeps this directory.
    pub(crate) fn keeps(&self, app: &AttachedApp) -> bool {
        self.app_ids.get(&app.name) == Some(&app.app_id) && app.is_at_home()
    }
}

/// The app id of each desired app: its present one, or a new one.
fn app_ids(
    desired: &Desired,
    observed: &Observed<'_>,
    current: &HashMap<&str, &AttachedApp>,
) -> BTreeMap<String, AppId> {
    let mut free =
        FreeAppIds::new(&observed.snapshot, observed.apps.attached, observed.apps.last_app);
    let ids = desired.apps.keys().map(|name| {
        let existing = current.get(name.as_str());
        (name.clone(), existing.map_or_else(|| free.take(), |app| app.app_id))
    });
    ids.collect()
}

/// Apps that are removed, and new apps that have no cgroup yet.
pub(crate) fn app_changes(
    desired: &Desired,
    attached: &[AttachedApp],
    current: &HashMap<&str, &AttachedApp>,
) -> Vec<Change> {
    let Desired { apps, names: _ } = desired;
    let names = attached.iter().map(|app| &app.name);
    let gone: BTreeSet<_> = names.filter(|name| !apps.contains_key(*name)).collect();
    let gone = gone.into_iter().map(|name| Change::Detach { app: name.clone() });
    let waiting = apps.iter().filter(|(name, app)| {
        let is_new = !current.contains_key(name.as_str());
        is_new && app.cgroups.is_empty()
    });
    let waiting = waiting.map(|(name, _)| Change::Expect { app: name.clone() });
    gone.chain(waiting).collect()
}

/// VIPs that are added, removed or changed.
fn mapping_changes(
    desired: &Desired,
    observed: &Observed<'_>,
    app_ids: &BTreeMap<String, AppId>,
    mappings: &[Mapping],
    plan: &Plan,
) -> Vec<Change> {
    let attached = observed.apps.attached.iter().map(|app| (app.app_id, app.name.as_str()));
    let mut apps: BTreeMap<_, _> = attached.collect();
    apps.extend(app_ids.iter().map(|(name, app_id)| (*app_id, name.as_str())));
    let changes = plan::changes(&observed.snapshot, mappings, plan).into_iter();
    let changes = changes.map(|MappingChange { app_id, vip, old, new }| {
        let app = apps.get(&app_id).copied();
        let app = app.map_or_else(|| format!("(app id {app_id})"), str::to_owned);
        let relationship = desired.names.relationships(&app, vip);
        let relationship = relationship.or_else(|| observed.apps.names.relationships(&app, vip));
        Change::Vip { app, relationship, vip, old, new }
    });
    changes.collect()
}

/// The part of the difference that is about cgroups, see [`Diff`].
#[derive(Default)]
pub(crate) struct Attachments {
    pub(crate) attach: Vec<Attachment>,
    pub(crate) changes: Vec<Change>,
    pub(crate) owners: HashMap<u64, String>,
    pub(crate) unseen: Vec<String>,
}

impl Attachments {
    /// Compares the cgroups of the desired apps with those that are attached.
    ///
    /// # Errors
    ///
    /// Cgroups that are not in view.
    pub(crate) fn new(
        desired: &Desired,
        observed: ObservedApps<'_>,
        current: &HashMap<&str, &AttachedApp>,
        app_ids: &BTreeMap<String, AppId>,
    ) -> Result<Self> {
        let ObservedApps { attached, names: _, last_app: _, switch, others } = observed;
        let mut all = Self::default();
        let mut places = CgroupPlaces::new(others.tree());
        for claim in claims(desired, attached, &mut places) {
            let Claim { app, cgroup, below, named, by_hand } = claim;
            all.owners.insert(cgroup, app.to_owned());
            let app_id = app_ids[app];
            let Some(below) = below else {
                all.unseen.push(places.stays_attached(app, cgroup));
                continue;
            };
            let on = match switch {
                Some(switch) => switch.app_of(cgroup)? == Some(app_id),
                None => false,
            };
            let path = others.tree().mount().join(&below);
            let existing = current.get(app).filter(|app| on && app.is_attached_to(cgroup));
            let settled = match existing.and_then(|app| app.held(cgroup)) {
                Some(held) => others.is_alone(&path, held)?,
                None => false,
            };
            if !settled {
                let app = app.to_owned();
                all.changes.push(Change::Attach { app: app.clone(), cgroup: below, id: cgroup });
                all.attach.push(Attachment { app, app_id, cgroup, path, named, by_hand });
            }
        }
        all.changes.extend(unclaimed(desired, attached, &all.owners, &mut places));
        Ok(all)
    }
}
