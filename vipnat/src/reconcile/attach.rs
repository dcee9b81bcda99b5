//! One more cgroup of an app, by hand.

use crate::kernel::compat;
use crate::state::staging;
use std::path::Path;

use crate::{
    kernel::{
        cgroup::Paths,
        error::{Error, Result},
        maps::Switch,
        preflight::{self, Privilege},
    },
    reconcile::{Attached, Session},
    state::{links, state_dir::StateDir},
};
use vipnat_core::text::shown_name;

impl Session {
    /// Attaches an app to one more cgroup, given as a whole path, until the cgroup or the app is gone. What
    /// a table gave to another app by a pattern makes way for it; what it gave by a path does so until the
    /// next apply. Also what people should know.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if no such app was applied, or the cgroup is another's or not there.
    pub fn attach(&self, name: &str, path: &Path) -> Result<(Attached, Option<String>)> {
        preflight::check(Privilege::UsePins)?;
        let refused = |what: String| Err(Error::Refused(what));
        let nothing = format!("no app {name:?}: nothing is applied; apply a table first");
        let Some(dir) = StateDir::open(&self.dir)? else {
            return refused(nothing);
        };
        if !staging::exists(&dir)? {
            return refused(nothing);
        }
        let tree = self.tree()?;
        let Some(below) = tree.below(path) else {
            return refused(format!(
                "{} is not below the cgroup v2 mount {}, so it is not the cgroup of a container",
                shown_name(path),
                shown_name(tree.mount())
            ));
        };
        let found = tree.id(below)?;
        let Some(cgroup) = found else {
            return refused(format!("cgroup {} does not exist", shown_name(path)));
        };
        let there = links::list(&dir)?;
        let Some(pinned) = there.iter().find(|app| app.name == name) else {
            return Err(links::unknown(Some(&dir), name));
        };
        // The layout of the maps may be another build's: what this needs is the same in all.
        compat::check_hooks(dir.path())?;
        let switch = Switch::open(dir.path())?;
        let holder = there.iter().find(|other| other.name != name && other.has(cgroup));
        if let Some(holder) = holder.filter(|holder| holder.has_by_hand(cgroup)) {
            return refused(format!(
                "cgroup {} belongs to app {:?}, by `vipnat attach`; two apps cannot share one",
                shown_name(path),
                holder.name
            ));
        }
        // Of all other apps the links don't matter: there may be thousands, and a container waits.
        let app = &pinned.read()?;
        let on = switch.app_of(cgroup)? == Some(app.app_id);
        if on && app.is_attached_to(cgroup) && pinned.has_by_hand(cgroup) {
            return Ok((Attached::Already, None));
        }
        for outer in below.ancestors().skip(1).take_while(|outer| *outer != Path::new("")) {
            if let Ok(Some(id)) = tree.id(outer)
                && app.is_attached_to(id)
                && switch.app_of(id)? == Some(app.app_id)
            {
                // It is translated already, with all that is in the outer one.
                return Ok((Attached::Already, None));
            }
        }
        // Containers come and go, and nobody may ever apply again.
        links::release_gone(&switch, app, &Paths::of(&tree))?;
        let holder = match holder {
            Some(holder) => links::read_one(&dir, holder.app_id, &holder.name, cgroup)?,
            None => None,
        };
        let held = app.held(cgroup).or_else(|| holder.as_ref()?.held(cgroup));
        let others = self.others(dir.path(), &tree);
        others.admit(name, (path, cgroup), held)?;
        // A pattern of another app may have been faster.
        if let Some(holder) = &holder
            && !app.has_links_on(cgroup)
        {
            links::hand_over(holder, app, cgroup)?;
        }
        let again = || links::read_one(&dir, app.app_id, name, cgroup);
        let Some(here) = again()? else {
            return refused(nothing);
        };
        links::claim(&here, cgroup)?;
        let here = again()?.unwrap_or(here);
        links::attach(&dir, &switch, &here, cgroup, path)?;
        let attached = holder.map_or(Attached::Now, |holder| Attached::TakenFrom(holder.name));
        Ok((attached, others.warning()))
    }
}
