//! The difference, made: in an order in which every connect of an app goes where the old table or
//! the new one says. What comes is complete before anything leads to it, and what goes is led to by
//! nothing before it goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use crate::{
    kernel::{
        error::{Error, Result},
        maps::Maps,
        others::Others,
    },
    reconcile::{
        MissingCgroup,
        prepare::{Attach, Work},
    },
    state::{
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};
use vipnat_common::AppId;
use vipnat_core::{model::Snapshot, plan::Plan};

/// Makes the directories of all apps there are to be, and notes that their app ids are given.
///
/// An app's directory is there before and after all that has its app id in the maps, so that what an
/// interrupted command leaves is found again under its name.
pub(crate) fn reserve_app_ids(
    dir: &StateDir,
    maps: &Maps,
    work: &Work,
    attached: &[AttachedApp],
) -> Result<()> {
    let highest = work.app_ids.values().copied().max().unwrap_or_default();
    if highest.0 > maps.layout()?.last_app {
        maps.set_last_app(highest)?;
    }
    let kept = attached.iter().filter(|app| work.keeps(app));
    let known: BTreeSet<_> = kept.map(|app| app.name.as_str()).collect();
    let new = work.app_ids.iter().filter(|(app, _)| !known.contains(app.as_str()));
    new.into_iter().try_for_each(|(app, app_id)| links::reserve(dir, *app_id, app).map(drop))
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Done {
    /// Why apps could not be attached, by name.
    pub(crate) failed: BTreeMap<String, Error>,
    /// The cgroups that went while they were attached.
    pub(crate) vanished: BTreeSet<u64>,
    /// The app ids from which nothing was taken away, because of what failed.
    pub(crate) held: BTreeSet<AppId>,
}

/// Does all of it. Where an app can't be attached, what goes with it stays.
pub(crate) fn carry_out(
    dir: &StateDir,
    maps: &Maps,
    work: &Work,
    now: &Snapshot,
    attached: &[AttachedApp],
    others: &Others<'_>,
    absent: MissingCgroup,
) -> Result<Done> {
    let Work { plan, changes: _, attach, owners, app_ids: _, strays: _, unseen: _ } = work;
    if *plan != Plan::default() {
        dir.begin_change()?;
    }
    reserve_app_ids(dir, maps, work, attached)?;
    maps.execute(&plan.steps_before_attaching())?;
    // One write for each cgroup makes it the new app's.
    let mut done = Done::default();
    let mut owning = Owning::new(attached, work);
    for attach in attach {
        let Err(error) = attach_app(dir, maps, attach, &mut owning, owners, others) else {
            continue;
        };
        if (absent == MissingCgroup::Wait || !attach.named) && !attach.is_there(others.tree()) {
            // A container that ends while it is attached is no failure, and leaves nothing.
            let own = &mut owning.app(dir, attach)?.app;
            links::release(maps.cgroups(), own, attach.cgroup)?;
            own.look_at(attach.cgroup)?;
            done.vanished.insert(attach.cgroup);
        } else {
            done.failed.insert(attach.app.clone(), error);
        }
    }
    let held = held_back(maps, attached, attach, &done.failed)?;
    let plan = plan.holding_back(now, |app_id| held.contains(&app_id));
    let all = links::read(dir)?.into_iter().filter(|app| !held.contains(&app.app_id));
    let all: Vec<_> = all.collect();
    let mut gone = Vec::new();
    for app in &all {
        if work.keeps(app) {
            for cgroup in app.cgroups().filter(|cgroup| owners.get(cgroup) != Some(&app.name)) {
                links::release(maps.cgroups(), app, cgroup)?;
            }
            continue;
        }
        for cgroup in app.cgroups() {
            // Only if foreign hands made this directory.
            let owner = owners.get(&cgroup).and_then(|owner| {
                all.iter().find(|other| other.name == *owner && work.keeps(other))
            });
            links::release_stray(maps.cgroups(), app, cgroup, owner)?;
        }
        gone.push(app);
    }
    maps.execute(&plan.steps_after_attaching(!attach.is_empty()))?;
    gone.into_iter().try_for_each(links::remove)?;
    done.held = held;
    Ok(done)
}

/// The apps that keep what they have: those that could not be attached, and those whose cgroups these
/// were to get. By their app ids.
fn held_back(
    maps: &Maps,
    attached: &[AttachedApp],
    attach: &[Attach],
    failed: &BTreeMap<String, Error>,
) -> Result<BTreeSet<AppId>> {
    let mut held = BTreeSet::new();
    for Attach { app: _, app_id, cgroup, .. } in
        attach.iter().filter(|attach| failed.contains_key(&attach.app))
    {
        held.insert(*app_id);
        let holders = attached.iter().filter(|other| other.has_links_on(*cgroup));
        held.extend(holders.map(|holder| holder.app_id));
        // Whoever had the links, this is whose VIPs the cgroup has until it is switched.
        held.extend(maps.cgroups().app_of(*cgroup)?.filter(|app_id| *app_id != AppId::NONE));
    }
    Ok(held)
}

/// What apps have while they are attached to one cgroup after the other. Each link is read once before, and
/// again when something was done to it.
struct Owning<'a> {
    attached: HashMap<&'a str, &'a AttachedApp>,
    /// Who had links on which cgroup at first.
    holders: HashMap<u64, Vec<&'a AttachedApp>>,
    apps: HashMap<&'a str, Owner>,
}

/// An app that is attached somewhere.
struct Owner {
    app: AttachedApp,
    /// Whether it is off where nobody is to have it any more.
    has_left: bool,
}

impl<'a> Owning<'a> {
    fn new(attached: &'a [AttachedApp], work: &Work) -> Self {
        let mut holders: HashMap<_, Vec<_>> = HashMap::new();
        for app in attached {
            app.cgroups().for_each(|cgroup| holders.entry(cgroup).or_default().push(app));
        }
        let kept = attached.iter().filter(|app| work.keeps(app));
        let attached = kept.map(|app| (app.name.as_str(), app)).collect();
        Self { attached, holders, apps: HashMap::new() }
    }

    /// Another app that has links on the cgroup.
    fn holder(&self, attach: &Attach) -> Option<&'a AttachedApp> {
        let mut holders = self.holders.get(&attach.cgroup)?.iter();
        let is_own = |app: &AttachedApp| app.name == attach.app && app.app_id == attach.app_id;
        holders.find(|other| !is_own(other)).copied()
    }

    fn app(&mut self, dir: &StateDir, attach: &'a Attach) -> Result<&mut Owner> {
        Ok(match self.apps.entry(&attach.app) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let app = match self.attached.get(attach.app.as_str()) {
                    Some(app) => (*app).clone(),
                    None => links::reserve(dir, attach.app_id, &attach.app)?,
                };
                new.insert(Owner { app, has_left: false })
            }
        })
    }
}

/// Attaches one app, with the links that another one has on its cgroup, if any.
fn attach_app<'a>(
    dir: &StateDir,
    maps: &Maps,
    attach: &'a Attach,
    owning: &mut Owning<'a>,
    owners: &HashMap<u64, String>,
    others: &Others<'_>,
) -> Result<()> {
    let Attach { app, app_id: _, cgroup, path, named: _, by_hand } = attach;
    let holder = owning.holder(attach);
    let Owner { app: own, has_left } = owning.app(dir, attach)?;
    let held = own.held(*cgroup).or_else(|| holder?.held(*cgroup));
    others.admit(app, (path, *cgroup), held)?;
    if let Some(holder) = holder
        && !own.has_links_on(*cgroup)
    {
        links::hand_over(holder, own, *cgroup)?;
        own.look_at(*cgroup)?;
    }
    if *by_hand {
        links::claim(own, *cgroup)?;
        own.look_at(*cgroup)?;
    }
    let done = links::attach(dir, maps.cgroups(), own, *cgroup, path);
    own.look_at(*cgroup)?;
    done?;
    // At once, since cgroups nest: one inside the other, both would translate. What another app is
    // to have, it takes over.
    if !*has_left {
        let left: Vec<_> = own.cgroups().filter(|old| !owners.contains_key(old)).collect();
        for old in left {
            links::release(maps.cgroups(), own, old)?;
            own.look_at(old)?;
        }
        *has_left = true;
    }
    Ok(())
}
