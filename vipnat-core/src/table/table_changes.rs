//! Changes of single services and apps, for a source that tells of these instead of whole tables.

use std::collections::BTreeMap;

use super::{
    difference::pairs,
    model::{App, Service, Table},
};

/// The services and apps that a change replaces, by name. `None` removes one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableChanges {
    /// The services.
    pub services: BTreeMap<String, Option<Service>>,
    /// The apps.
    pub apps: BTreeMap<String, Option<App>>,
}

impl TableChanges {
    /// The changes that lead from one table to another.
    pub fn between(old: &Table, new: &Table) -> Self {
        fn changed<T: Clone + PartialEq>(
            old: &BTreeMap<String, T>,
            new: &BTreeMap<String, T>,
        ) -> BTreeMap<String, Option<T>> {
            let differ = pairs(old, new).filter(|(_, old, new)| old != new);
            differ.map(|(name, _, new)| (name.clone(), new.cloned())).collect()
        }

        Self {
            services: changed(&old.services, &new.services),
            apps: changed(&old.apps, &new.apps),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.apps.is_empty()
    }
}
