//! Attaches an app to one more cgroup, for `vipnat attach`.

use std::path::Path;

use vipnat_core::text::shown_name;

use super::{context::Context, outcome::Attached};
use crate::{
    kernel::{
        cgroup::Paths,
        compat,
        error::{Error, Result},
        maps::Switch,
        preflight::{self, Privilege},
    },
    state::{links, staging, state_dir::StateDir},
};

/// See [`Session::attach`](super::Session::attach).
pub(crate) fn attach(
    context: &Context,
    name: &str,
    path: &Path,
) -> Result<(Attached, Option<String>)> {
    preflight::check(Privilege::UsePins)?;
    let refused = |what: String| Err(Error::Refused(what));
    let Some(dir) = StateDir::open(&context.dir)? else {
        return Err(links::unknown(None, name));
    };
    if !staging::exists(&dir)? {
        return Err(links::unknown(None, name));
    }
    let tree = context.tree()?;
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
    // The maps may have another build's layout: all layouts have the same map `scope`.
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
    // Read only this app's links: there may be thousands of other apps, and a container waits.
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
            // An outer cgroup already has the app, which translates for this one too.
            return Ok((Attached::Already, None));
        }
    }
    // Containers come and go, and no apply may ever follow.
    links::release_gone(&switch, app, &Paths::of(&tree))?;
    let holder = match holder {
        Some(holder) => links::read_one(&dir, holder.app_id, &holder.name, cgroup)?,
        None => None,
    };
    let held = app.held(cgroup).or_else(|| holder.as_ref()?.held(cgroup));
    let others = context.others(dir.path(), &tree);
    others.admit(name, (path, cgroup), held)?;
    // The table may have given the cgroup to another app by a pattern.
    if let Some(holder) = &holder
        && !app.has_links_on(cgroup)
    {
        links::hand_over(holder, app, cgroup)?;
    }
    let again = || links::read_one(&dir, app.app_id, name, cgroup);
    let Some(here) = again()? else {
        return Err(links::unknown(None, name));
    };
    links::claim(&here, cgroup)?;
    let here = again()?.unwrap_or(here);
    links::attach(&dir, &switch, &here, cgroup, path)?;
    let attached = holder.map_or(Attached::Now, |holder| Attached::TakenFrom(holder.name));
    Ok((attached, others.warning()))
}
