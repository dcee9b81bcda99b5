//! The desired state: the apps and VIPs that the kernel should translate. A table gives it, or the kernel.

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

/// All apps that the kernel should translate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The apps, by name.
    pub apps: BTreeMap<String, DesiredApp>,
    /// The names of relationships and services.
    pub names: NameIndex,
}

/// One app that the kernel should translate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredApp {
    /// The mappings of its VIPs. [`AppId::NONE`](vipnat_common::AppId::NONE) until the app has an id.
    pub mappings: Vec<Mapping>,
    /// Its cgroups by id, with their paths below the mount.
    pub cgroups: BTreeMap<u64, PathBuf>,
    /// Those of its cgroups that a path names, not a pattern.
    pub named: BTreeSet<u64>,
    /// Those that `vipnat attach` named; patterns do not matter for them.
    pub by_hand: BTreeSet<u64>,
    /// Whether it may have cgroups that vipnat can't see. Such cgroups stay attached. This can be set even
    /// if all were seen, since cgroups may have moved afterwards.
    pub may_have_unseen: bool,
}

impl Desired {
    /// The number of entries, slots and cursors that this takes.
    pub fn capacity(&self) -> Capacity {
        let mappings = self.apps.values().flat_map(|app| &app.mappings);
        let turns = mappings.clone().map(|Mapping { turns, .. }| turns.len().max(1) as u32);
        let turns = turns.fold(0, u32::saturating_add);
        // A limited VIP also has a head, which takes a slot.
        let limited = mappings.clone().filter(|mapping| mapping.limited()).count() as u32;
        let cursors = mappings.count() as u32;
        Capacity { vips: cursors + limited, backends: turns.saturating_add(limited), cursors }
    }

    /// The apps, mappings and names of a table, without cgroups.
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

    /// The same, with the mappings of heirs under the names of removed apps.
    ///
    /// The heir of a removed app is the app that gets its cgroup. Until the cgroup is handed over, it keeps
    /// the id of the removed app, so that id needs the mappings of the heir.
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

    /// Whether both have the same apps, mappings and names. Cgroups may differ.
    pub fn same_table(&self, other: &Self) -> bool {
        let table = |desired: &Self| -> BTreeMap<_, _> {
            desired.apps.iter().map(|(name, app)| (name.clone(), app.mappings.clone())).collect()
        };
        self.names == other.names && table(self) == table(other)
    }
}
