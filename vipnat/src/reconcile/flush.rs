//! Removes all state, or one app.

use vipnat_core::plan::Plan;

use super::{context::Context, disconnect, outcome::Flushed, recover::read_and_recover};
use crate::{
    kernel::{
        error::Result,
        maps::Switch,
        preflight::{self, Privilege},
    },
    state::{links, name_index, pending_disconnects::PendingDisconnects, state_dir::StateDir},
};

/// See [`Session::flush`](super::Session::flush).
pub(crate) fn flush(context: &Context) -> Result<Flushed> {
    preflight::check(Privilege::UsePins)?;
    let dir = StateDir::open(&context.dir)?;
    let mut flushed = Flushed::default();
    if let Some(dir) = &dir {
        flushed.found = !dir.is_empty()?;
        // Switch translation off first, if the maps can be opened. Otherwise removing the links does it.
        if let (Ok(switch), Ok(apps)) = (Switch::open(dir.path()), links::read(dir)) {
            for app in apps {
                links::release_all(&switch, &app)?;
            }
        }
    }
    match name_index::remove(&context.dir) {
        Ok(found) => flushed.found |= found,
        Err(error) => flushed.warn("remove the list of names", &error),
    }
    if let Err(error) = PendingDisconnects::remove(&context.dir) {
        flushed.warn("clear the list of pending disconnects", &error);
    }
    if let Some(dir) = dir {
        dir.remove_all()?;
    }
    Ok(flushed)
}

/// See [`Session::flush_app`](super::Session::flush_app).
pub(crate) fn flush_app(context: &Context, name: &str) -> Result<Flushed> {
    preflight::check(Privilege::Change)?;
    let mut flushed = Flushed::default();
    let Some((dir, maps)) = context.open()? else {
        return Ok(flushed);
    };
    let apps = links::find(&dir, name)?;
    if !apps.is_empty() {
        flushed.found = true;
        let (now, _) = read_and_recover(&dir, &maps, true)?;
        let plan = Plan::new(&now, &[], |app_id| apps.iter().any(|app| app.app_id == app_id))?;
        apps.iter().try_for_each(|app| links::release_all(maps.cgroups(), app))?;
        dir.begin_change()?;
        maps.execute(&plan.steps())?;
    }
    // Do this even if the app is gone: an earlier flush may have failed here.
    let mut record = name_index::load(&context.dir);
    if let Some(problem) = record.problem() {
        flushed.warnings.push(format!("{problem}; its names stay in there"));
    } else {
        if record.forget(name) {
            flushed.found = true;
            dir.begin_change()?;
        }
        if let Err(error) = name_index::save(&record, &context.dir) {
            flushed.warn("remove its names from the list", &error);
        }
    }
    if let Err(error) = disconnect::forget(context, &dir, |removed| removed.app == name) {
        flushed.warn("remove its connections from the list of pending disconnects", &error);
    }
    // Remove the directory last: without it, a later command finds nothing else under the app's name.
    apps.iter().try_for_each(links::remove)?;
    dir.end_change()?;
    dir.is_still_there()?;
    Ok(flushed)
}
