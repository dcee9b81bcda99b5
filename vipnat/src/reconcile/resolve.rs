//! The cgroups that a table means.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use vipnat_core::{model::Desired, table::Table};

use crate::kernel::{
    cgroup::{self, Names, Tree},
    error::{Error, Result},
};

/// What becomes of apps whose cgroup, named by its path, does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingCgroup {
    /// They are an error, before anything is changed.
    Error,
    /// Their VIPs are there, and whoever applies the table again when the cgroup exists attaches them.
    Wait,
}

/// What a table says, with the cgroups that exist now. Second, what is not as it says: cgroups that
/// several apps claim, which are then nobody's, and apps of whose cgroups a part is not in view.
///
/// # Errors
///
/// [`Error::NoCgroup`] if `absent` says so.
pub(crate) fn of_table(
    table: &Table,
    tree: &Tree,
    absent: MissingCgroup,
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
            let looked = cgroup::find(&mut names, cgroups, |_| {});
            found = looked.cgroups;
            // A path means no other one than that which was found.
            may_have_unseen = cgroups.path().is_none() || found.is_empty();
            if let Some(unseen) = looked.unseen.first() {
                let (app, reason) = (name.clone(), unseen.to_string());
                troubles.push(Error::Unseen { app, cgroups: cgroups.to_string(), reason });
            } else if let Some(path) = cgroups.path()
                && found.is_empty()
                && absent == MissingCgroup::Error
            {
                missing.push((name.clone(), tree.mount().join(path)));
            }
            let named = cgroups.path().is_some();
            for (id, path) in &found {
                match owners.get(id) {
                    // A path says more than patterns, however many.
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
