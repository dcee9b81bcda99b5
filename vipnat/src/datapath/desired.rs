//! What the kernel is to do, whoever says so: a table, or what it did before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use rustc_hash::FxHashMap;

use super::{
    Absent,
    apps::AttachedApp,
    cgroup::{self, Names, Paths, Place, Tree},
    error::{Error, Result},
    observe::Seen,
    rule::{Role, Rule},
    snapshot::{ByApp, Snapshot},
};
use crate::{record::Record, table::Table};

/// Everything that is to be translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The apps, by name.
    pub(super) apps: BTreeMap<String, DesiredApp>,
    /// What people call it.
    pub(super) names: Record,
}

/// One app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DesiredApp {
    /// What its VIPs do. Their scope is given when it is known.
    pub(super) rules: Vec<Rule>,
    /// Its cgroups, by id, and where each is below the mount.
    pub(super) cgroups: BTreeMap<u64, PathBuf>,
    /// Those among them that are the app's by their path, not by a pattern.
    pub(super) named: BTreeSet<u64>,
    /// Those that are the app's by hand, whatever patterns say.
    pub(super) by_hand: BTreeSet<u64>,
    /// It may have more, which are not in view: what is attached and not in view stays so. Also if all that
    /// was looked at was in view, since that may have changed after.
    pub(super) may_have_unseen: bool,
}

impl Desired {
    /// What a table says, with the cgroups that exist now. Second, what is not as it says: cgroups that
    /// several apps claim, which are then nobody's, and apps of whose cgroups a part is not in view.
    ///
    /// # Errors
    ///
    /// [`Error::NoCgroup`] if `absent` says so.
    pub(super) fn of_table(
        table: &Table,
        tree: &Tree,
        absent: Absent,
    ) -> Result<(Self, Vec<Error>)> {
        let mut desired = Self::without_cgroups(table);
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
                    && absent == Absent::Refuse
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
                !contested.contains_key(id)
                    && owners.get(id).is_some_and(|(owner, _)| owner == name)
            });
        }
        let contested = contested.into_values();
        troubles.extend(contested.map(|(cgroup, apps)| Error::Contested { cgroup, apps }));
        Ok((desired, troubles))
    }

    /// What a table says, but for cgroups.
    pub(super) fn without_cgroups(table: &Table) -> Self {
        let services = table.services.iter();
        let roles: FxHashMap<_, _> =
            services.map(|(name, service)| (name.as_str(), Role::from(service))).collect();
        let apps = table.apps.iter().map(|(name, app)| {
            let rules = app
                .mappings()
                .map(|(_, relationship)| Rule::new(relationship, &roles[&*relationship.service]));
            (name.clone(), DesiredApp { rules: rules.collect(), ..DesiredApp::default() })
        });
        Self { apps: apps.collect(), names: Record::of(table) }
    }

    /// The same, and under the names of apps that go, what the apps have that get their cgroups: as long
    /// as a cgroup is not handed over, it has the number of the app that goes.
    pub(super) fn with_heirs(&self, attached: &[AttachedApp]) -> Self {
        let mut all = self.clone();
        for gone in attached.iter().filter(|app| !self.apps.contains_key(&app.name)) {
            let of = |id| self.apps.values().find(|heir| heir.cgroups.contains_key(&id));
            if let Some(heir) = gone.cgroups().find_map(of) {
                let app = DesiredApp { rules: heir.rules.clone(), ..DesiredApp::default() };
                all.apps.insert(gone.name.clone(), app);
            }
        }
        all
    }

    /// What the kernel does now.
    pub(super) fn of_kernel(
        now: &Snapshot,
        seen: &[Seen],
        paths: &Paths,
        names: Record,
    ) -> Result<Self> {
        let mut apps = BTreeMap::new();
        let by_app = ByApp::new(now);
        for Seen { app, active } in seen {
            let rules = by_app.rules_of(app.scope, now).collect();
            let (mut cgroups, mut may_have_unseen) = (BTreeMap::new(), false);
            for id in active {
                match paths.place(*id) {
                    Place::At(path) => drop(cgroups.insert(*id, path)),
                    Place::Unseen(_) => may_have_unseen = true,
                    Place::Gone => {}
                }
            }
            let named = cgroups.keys().copied().collect();
            let by_hand = app.by_hand().collect();
            let app_now = DesiredApp { rules, cgroups, named, by_hand, may_have_unseen };
            apps.insert(app.name.clone(), app_now);
        }
        Ok(Self { apps, names })
    }

    /// Whether two say the same of apps, VIPs and backends; containers may have come and gone.
    pub(super) fn same_table(&self, other: &Self) -> bool {
        let table = |desired: &Self| -> BTreeMap<_, _> {
            desired.apps.iter().map(|(name, app)| (name.clone(), app.rules.clone())).collect()
        };
        self.names == other.names && table(self) == table(other)
    }
}
