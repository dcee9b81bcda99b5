//! Finds the cgroups that a table names or matches, and decides which app gets each.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use vipnat_core::{model::Desired, table::Table};

use super::context::Context;
use crate::kernel::{
    cgroup::{self, Names, Tree},
    error::{Error, Result},
};

/// How to treat an app whose cgroup, named by its path, does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingCgroup {
    /// Refuse the table before anything is changed.
    Error,
    /// Write the app's VIPs. A later apply attaches the app when the cgroup exists.
    Wait,
}

/// The apps of a table with their cgroups, and the errors. An error is an app that may have cgroups out of
/// view, or a cgroup that several apps claim, which none of them gets.
///
/// # Errors
///
/// With [`MissingCgroup::Error`], it returns the first of these errors, also for a missing cgroup.
pub(crate) fn resolve(
    context: &Context,
    table: &Table,
    missing: MissingCgroup,
) -> Result<(Desired, Vec<Error>)> {
    let (desired, mut troubles) = find_cgroups(table, &context.tree()?, missing)?;
    if missing == MissingCgroup::Error && !troubles.is_empty() {
        return Err(troubles.remove(0));
    }
    Ok((desired, troubles))
}

/// The same for one hierarchy.
///
/// # Errors
///
/// [`Error::NoCgroup`] if cgroups are missing and `on_missing` is [`MissingCgroup::Error`].
fn find_cgroups(
    table: &Table,
    tree: &Tree,
    on_missing: MissingCgroup,
) -> Result<(Desired, Vec<Error>)> {
    let mut desired = Desired::without_cgroups(table);
    let (mut missing, mut troubles) = (Vec::new(), Vec::new());
    let mut owners: HashMap<u64, (&str, bool)> = HashMap::new();
    let mut contested: BTreeMap<u64, (PathBuf, Vec<String>)> = BTreeMap::new();
    let mut names = Names::of(tree);
    for (name, app) in &table.apps {
        let mut found = BTreeMap::new();
        let mut may_have_unseen = false;
        if let Some(cgroups) = &app.cgroup {
            let looked = cgroup::find(&mut names, cgroups);
            found = looked.cgroups;
            // A path stands for one cgroup. If that was found, there are no others.
            may_have_unseen = cgroups.path().is_none() || found.is_empty();
            if let Some(unseen) = looked.unseen.first() {
                let (app, reason) = (name.clone(), unseen.to_string());
                troubles.push(Error::Unseen { app, cgroups: cgroups.to_string(), reason });
            } else if let Some(path) = cgroups.path()
                && found.is_empty()
                && on_missing == MissingCgroup::Error
            {
                missing.push((name.clone(), tree.mount().join(path)));
            }
            let named = cgroups.path().is_some();
            for (id, path) in &found {
                match owners.get(id) {
                    // A path takes precedence over any number of patterns.
                    Some((_, true)) if !named => {}
                    Some((_, false)) if named => {
                        owners.insert(*id, (name, true));
                        contested.remove(id);
                    }
                    Some((other, _)) => {
                        let first = || (path.clone(), vec![(*other).to_owned()]);
                        contested.entry(*id).or_insert_with(first).1.push(name.clone());
                    }
                    None => drop(owners.insert(*id, (name, named))),
                }
            }
        }
        let wanted = desired.apps.entry(name.clone()).or_default();
        if app.cgroup.as_ref().is_some_and(|cgroups| cgroups.path().is_some()) {
            wanted.named = found.keys().copied().collect();
        }
        wanted.cgroups = found;
        wanted.may_have_unseen = may_have_unseen;
    }
    if !missing.is_empty() {
        return Err(Error::NoCgroup { missing });
    }
    for (name, app) in &mut desired.apps {
        app.cgroups.retain(|id, _| {
            !contested.contains_key(id) && owners.get(id).is_some_and(|(owner, _)| owner == name)
        });
    }
    let contested = contested.into_values();
    troubles.extend(contested.map(|(cgroup, apps)| Error::Contested { cgroup, apps }));
    Ok((desired, troubles))
}
