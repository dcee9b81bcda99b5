//! Executes a prepared change, in an order that keeps every connect on the old table or the new one.
//!
//! [`Plan`] orders the writes to the maps. This file only puts the attachments in between.

use std::collections::{BTreeMap, BTreeSet};

use vipnat_common::AppId;
use vipnat_core::{model::Snapshot, plan::Plan};

use super::{
    attach_apps::AttachingApps,
    diff::{Attachment, Diff},
    observe::ObservedApps,
    resolve::MissingCgroup,
};
use crate::{
    kernel::{
        error::{Error, Result},
        maps::{Maps, Switch},
    },
    state::{
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};

/// The differences between the executed and the prepared change.
#[derive(Default)]
pub(crate) struct Executed {
    /// The reasons why apps could not be attached, by name.
    pub(crate) failed: BTreeMap<String, Error>,
    /// The cgroups that were removed while they were attached.
    pub(crate) vanished: BTreeSet<u64>,
    /// The app ids that keep everything they had, because of a failure.
    pub(crate) held: BTreeSet<AppId>,
    /// The writes to the maps that were made: the prepared ones without those held back.
    pub(crate) plan: Plan,
}

/// Executes a change that has room in the maps, whose content is `snapshot`. The caller has begun it
/// ([`StateDir::begin_change`]). If an app can't be attached,
/// vipnat keeps everything that it would remove for that app.
pub(crate) fn execute(
    dir: &StateDir,
    maps: &Maps,
    diff: &Diff,
    snapshot: &Snapshot,
    observed: ObservedApps<'_>,
    missing: MissingCgroup,
) -> Result<Executed> {
    let Diff { plan, changes: _, attach, owners: _, app_ids: _, strays: _, unseen: _ } = diff;
    let ObservedApps { attached, .. } = observed;
    reserve_app_ids(dir, maps, diff, attached)?;
    maps.execute(&plan.steps_before_attaching())?;
    let mut attaching = AttachingApps::new(dir, maps.cgroups(), diff, observed);
    let mut executed = attach_all(&mut attaching, diff, observed, missing)?;
    let held = held_back(maps.cgroups(), attached, attach, &executed.failed)?;
    let plan = plan.holding_back(snapshot, |app_id| held.contains(&app_id));
    let all: Vec<_> = attaching.now().filter(|app| !held.contains(&app.app_id)).collect();
    let gone = release_all(maps.cgroups(), diff, &all)?;
    maps.execute(&plan.steps_after_attaching(!attach.is_empty()))?;
    gone.into_iter().try_for_each(links::remove)?;
    (executed.held, executed.plan) = (held, plan);
    Ok(executed)
}

/// Makes the directories of all desired apps, and notes that their app ids are given.
///
/// The directory of an app exists as long as anything in the maps has its app id. So a later command finds
/// the app's name for the leftovers of an interrupted one.
pub(crate) fn reserve_app_ids(
    dir: &StateDir,
    maps: &Maps,
    diff: &Diff,
    attached: &[AttachedApp],
) -> Result<()> {
    let highest = diff.app_ids.values().copied().max().unwrap_or_default();
    if highest.0 > maps.layout()?.last_app {
        maps.set_last_app(highest)?;
    }
    let kept = attached.iter().filter(|app| diff.keeps(app));
    let known: BTreeSet<_> = kept.map(|app| app.name.as_str()).collect();
    let new = diff.app_ids.iter().filter(|(app, _)| !known.contains(app.as_str()));
    new.into_iter().try_for_each(|(app, app_id)| links::reserve(dir, *app_id, app).map(drop))
}

/// Attaches apps to their new cgroups. One write to the map `scope` gives each cgroup to its new app.
fn attach_all<'a>(
    attaching: &mut AttachingApps<'a>,
    diff: &'a Diff,
    observed: ObservedApps<'a>,
    missing: MissingCgroup,
) -> Result<Executed> {
    let mut executed = Executed::default();
    let tree = observed.others.tree();
    for attachment in &diff.attach {
        let Err(error) = attaching.attach(attachment) else {
            continue;
        };
        let may_be_missing = missing == MissingCgroup::Wait || !attachment.named;
        if may_be_missing && !attachment.is_there(tree) {
            // The container ended while vipnat attached the app: no failure. Remove the leftovers.
            attaching.release(attachment)?;
            executed.vanished.insert(attachment.cgroup);
        } else {
            executed.failed.insert(attachment.app.clone(), error);
        }
    }
    Ok(executed)
}

/// The app ids that keep their entries and slots: those of apps that could not be attached, and those of the
/// apps whose cgroups they should have got.
fn held_back(
    switch: &Switch,
    attached: &[AttachedApp],
    attach: &[Attachment],
    failed: &BTreeMap<String, Error>,
) -> Result<BTreeSet<AppId>> {
    let mut held = BTreeSet::new();
    for Attachment { app: _, app_id, cgroup, .. } in
        attach.iter().filter(|attachment| failed.contains_key(&attachment.app))
    {
        held.insert(*app_id);
        let holders = attached.iter().filter(|other| other.has_links_on(*cgroup));
        held.extend(holders.map(|holder| holder.app_id));
        // No matter which app has the links: until the switch, the cgroup has the VIPs of this one.
        held.extend(switch.app_of(*cgroup)?.filter(|app_id| *app_id != AppId::NONE));
    }
    Ok(held)
}

/// Releases the cgroups that apps should no longer have. Returns the apps whose directories are removed.
fn release_all<'a>(
    switch: &Switch,
    diff: &Diff,
    all: &[&'a AttachedApp],
) -> Result<Vec<&'a AttachedApp>> {
    let Diff { owners, .. } = diff;
    let mut gone = Vec::new();
    for app in all.iter().copied() {
        if diff.keeps(app) {
            for cgroup in app.cgroups().filter(|cgroup| owners.get(cgroup) != Some(&app.name)) {
                links::release(switch, app, cgroup)?;
            }
            continue;
        }
        for cgroup in app.cgroups() {
            // There is an owner only if another program made this directory.
            let owner = owners.get(&cgroup).and_then(|owner| {
                all.iter().copied().find(|other| other.name == *owner && diff.keeps(other))
            });
            links::release_stray(switch, app, cgroup, owner)?;
        }
        gone.push(app);
    }
    Ok(gone)
}
