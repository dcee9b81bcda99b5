//! What the kernel is to do, whoever says so: a table, or what it did before.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use rustc_hash::FxHashMap;

use super::{
    capacity::Capacity,
    mapping::{BackendSet, Mapping},
    names::NameIndex,
};
use crate::table::Table;

/// Everything that is to be translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The apps, by name.
    pub apps: BTreeMap<String, DesiredApp>,
    /// What people call it.
    pub names: NameIndex,
}

/// One app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredApp {
    /// What its VIPs do. Their app id is given when it is known.
    pub mappings: Vec<Mapping>,
    /// Its cgroups, by id, and where each is below the mount.
    pub cgroups: BTreeMap<u64, PathBuf>,
    /// Those among them that are the app's by their path, not by a pattern.
    pub named: BTreeSet<u64>,
    /// Those that are the app's by hand, whatever patterns say.
    pub by_hand: BTreeSet<u64>,
    /// It may have more, which are not in view: what is attached and not in view stays so. Also if all that
    /// was looked at was in view, since that may have changed after.
    pub may_have_unseen: bool,
}

impl Desired {
    /// What it takes to do what is desired.
    pub fn capacity(&self) -> Capacity {
        let mappings = self.apps.values().flat_map(|app| &app.mappings);
        let turns = mappings.clone().map(|Mapping { turns, .. }| turns.len().max(1) as u32);
        let turns = turns.fold(0, u32::saturating_add);
        // One that is limited has a head as well, which has a slot.
        let limited = mappings.clone().filter(|rule| rule.limited()).count() as u32;
        let cursors = mappings.count() as u32;
        Capacity { vips: cursors + limited, backends: turns.saturating_add(limited), cursors }
    }

    /// What a table says, but for cgroups.
    pub fn without_cgroups(table: &Table) -> Self {
        let services = table.services.iter();
        let roles: FxHashMap<_, _> =
            services.map(|(name, service)| (name.as_str(), BackendSet::from(service))).collect();
        let apps = table.apps.iter().map(|(name, app)| {
            let mappings = app.mappings().map(|(_, relationship)| {
                Mapping::new(relationship, &roles[&*relationship.service])
            });
            (name.clone(), DesiredApp { mappings: mappings.collect(), ..DesiredApp::default() })
        });
        Self { apps: apps.collect(), names: NameIndex::of(table) }
    }

    /// The same, and under the names of apps that go, what the apps have that get their cgroups: as long
    /// as a cgroup is not handed over, it has the number of the app that goes.
    pub fn with_heirs<'a, C>(&self, attached: impl Iterator<Item = (&'a str, C)>) -> Self
    where
        C: Iterator<Item = u64>,
    {
        let mut all = self.clone();
        for (name, mut cgroups) in attached.filter(|(name, _)| !self.apps.contains_key(*name)) {
            let of = |id| self.apps.values().find(|heir| heir.cgroups.contains_key(&id));
            if let Some(heir) = cgroups.find_map(of) {
                let app = DesiredApp { mappings: heir.mappings.clone(), ..DesiredApp::default() };
                all.apps.insert(name.to_owned(), app);
            }
        }
        all
    }

    /// Whether two say the same of apps, VIPs and backends; containers may have come and gone.
    pub fn same_table(&self, other: &Self) -> bool {
        let table = |desired: &Self| -> BTreeMap<_, _> {
            desired.apps.iter().map(|(name, app)| (name.clone(), app.mappings.clone())).collect()
        };
        self.names == other.names && table(self) == table(other)
    }
}
