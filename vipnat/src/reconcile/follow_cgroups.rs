//! Attaches and releases single cgroups as they are created and removed, without reading other apps, cgroups
//! or maps.
//!
//! This file handles only two simple cases: a new cgroup that never had a link and that the table gives to
//! one app, and a removed cgroup. In all other cases, [`FollowedCgroups::needs_apply`] asks for an apply. It
//! also does so if the state is not as an apply leaves it.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use vipnat_common::AppId;
use vipnat_core::model::{Change, Place};

use super::{context::Context, holders::CgroupHolders, outcome::FollowedCgroups};
use crate::{
    kernel::{cgroup::Tree, compat, error::Result, foreign_programs::Others, maps::Switch},
    state::{
        links::{self, AttachedApp},
        state_dir::StateDir,
    },
};

/// A new cgroup that the table gives to an app.
#[derive(Clone, Debug)]
pub struct NewCgroup {
    /// The app.
    pub app: String,
    /// Whether the table gives it by a path, not by a pattern.
    pub named: bool,
    /// The cgroup, below the mount.
    pub below: PathBuf,
    /// Its id.
    pub id: u64,
}

/// How to treat a new cgroup.
enum Decision {
    Attach(AttachedApp),
    /// The cgroup is translated already, or belongs to another app for good. If an app has links on it: that
    /// app, and whether `vipnat attach` attached it.
    Ignore(Option<(AppId, bool)>),
    NeedsApply,
}

/// See [`Session::follow_cgroups`](super::Session::follow_cgroups).
pub(crate) fn follow_cgroups(
    context: &Context,
    holders: &mut CgroupHolders,
    removed: &[u64],
    new: &[NewCgroup],
) -> FollowedCgroups {
    let mut changes = FollowedCgroups::default();
    if try_to_follow(context, holders, removed, new, &mut changes).is_err() {
        changes.needs_apply = true;
    }
    changes
}

fn try_to_follow(
    context: &Context,
    holders: &mut CgroupHolders,
    removed: &[u64],
    new: &[NewCgroup],
    changes: &mut FollowedCgroups,
) -> Result<()> {
    let dir = StateDir::open_again(&context.dir)?;
    let Some(dir) = dir.filter(|dir| compat::is_current(dir.path())) else {
        changes.needs_apply = true;
        return Ok(());
    };
    if dir.is_changing()? {
        changes.needs_apply = true;
        return Ok(());
    }
    let switch = Switch::open(dir.path())?;
    for cgroup in removed {
        release_removed(&dir, &switch, holders, *cgroup, changes)?;
    }
    let tree = context.tree()?;
    let others = context.others(dir.path(), &tree);
    let mut following = Following { dir: &dir, switch: &switch, others: &others, holders, changes };
    new.iter().try_for_each(|cgroup| following.attach_new(cgroup))?;
    dir.is_still_there()
}

fn release_removed(
    dir: &StateDir,
    switch: &Switch,
    holders: &mut CgroupHolders,
    cgroup: u64,
    changes: &mut FollowedCgroups,
) -> Result<()> {
    let Some((app_id, name)) = holders.holder(cgroup) else {
        return Ok(());
    };
    let app = links::read_one(dir, app_id, name, cgroup)?;
    // `vipnat attach` may have given it to another app since.
    let Some(app) = app.filter(|app| app.has_links_on(cgroup)) else {
        changes.needs_apply = true;
        return Ok(());
    };
    links::release(switch, &app, cgroup)?;
    holders.take(cgroup);
    changes.changes.push(Change::Leave { app: app.name, cgroup: Place::Gone });
    Ok(())
}

/// The locked state while new cgroups are attached.
struct Following<'a> {
    dir: &'a StateDir,
    switch: &'a Switch,
    others: &'a Others<'a>,
    holders: &'a mut CgroupHolders,
    changes: &'a mut FollowedCgroups,
}

impl Following<'_> {
    fn attach_new(&mut self, new: &NewCgroup) -> Result<()> {
        let NewCgroup { app: name, named: _, below, id } = new;
        let app = match self.decide(new)? {
            Decision::Attach(app) => app,
            Decision::Ignore(holder) => {
                if let Some((app_id, by_hand)) = holder {
                    self.holders.give(*id, app_id, by_hand, Some(below.clone()));
                }
                return Ok(());
            }
            Decision::NeedsApply => {
                self.changes.needs_apply = true;
                return Ok(());
            }
        };
        let Self { dir, switch, others, holders, changes } = self;
        let path = others.tree().mount().join(below);
        let admitted = others.admit(name, (&path, *id), app.held(*id));
        match admitted.and_then(|()| links::attach(dir, switch, &app, *id, &path)) {
            Ok(()) => {
                holders.give(*id, app.app_id, false, Some(below.clone()));
                let (app, cgroup) = (name.clone(), below.clone());
                changes.changes.push(Change::Attach { app, cgroup, id: *id });
            }
            // The container ended while vipnat attached the app: no failure. Remove the leftovers.
            Err(_) if others.tree().id(below)? != Some(*id) => {
                let app = links::read_one(dir, app.app_id, name, *id)?.unwrap_or(app);
                links::release(switch, &app, *id)?;
                changes.changes.push(Change::Leave { app: name.clone(), cgroup: Place::Gone });
            }
            Err(error) => changes.failed.push(error),
        }
        Ok(())
    }

    /// Decides as [`Diff`](super::diff::Diff) does, for one cgroup. The map `scope` shows which app has it.
    fn decide(&self, new: &NewCgroup) -> Result<Decision> {
        let Self { dir, switch, others, holders, changes: _ } = self;
        let NewCgroup { app: name, named, below, id } = new;
        let Some(app_id) = holders.id(name) else {
            return Ok(Decision::NeedsApply);
        };
        let Some(app) = links::read_one(dir, app_id, name, *id)? else {
            return Ok(Decision::NeedsApply);
        };
        match switch.app_of(*id)? {
            // It never had a link.
            None if !app.has_links_on(*id) => {}
            Some(on) if on == app_id && app.is_attached_to(*id) => {
                return Ok(Decision::Ignore(Some((app_id, app.has_by_hand(*id)))));
            }
            // `vipnat attach` takes precedence over a pattern.
            Some(other) if !named && other != app_id => {
                let theirs = match holders.name(other) {
                    Some(holder) => links::read_one(dir, other, holder, *id)?,
                    None => None,
                };
                return Ok(match theirs.filter(|app| app.has_by_hand(*id)) {
                    Some(_) => Decision::Ignore(Some((other, true))),
                    None => Decision::NeedsApply,
                });
            }
            _ => return Ok(Decision::NeedsApply),
        }
        let tree = others.tree();
        if is_inside_attached(tree, switch, app_id, below)? {
            return Ok(Decision::Ignore(None));
        }
        // The app may be attached to a cgroup inside this one. It must not be attached to both.
        let path = tree.mount().join(below);
        let has_inner = std::fs::metadata(&path).map_or(0, |cgroup| cgroup.nlink()) > 2;
        Ok(if has_inner && app.has_any_by_hand()? {
            Decision::NeedsApply
        } else {
            Decision::Attach(app)
        })
    }
}

/// Whether the app is switched on in a cgroup above, which translates for this one, too.
fn is_inside_attached(tree: &Tree, switch: &Switch, app_id: AppId, below: &Path) -> Result<bool> {
    for outer in below.ancestors().skip(1).take_while(|outer| *outer != Path::new("")) {
        if let Some(outer) = tree.id(outer)?
            && switch.app_of(outer)? == Some(app_id)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
