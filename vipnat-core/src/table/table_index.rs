//! Finds what a change of a table may break, without a look at the rest of the table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    difference::Difference,
    model::{App, Cgroups, Service, Table, check_name, difference},
    service_users::ServiceUsers,
    table_changes::TableChanges,
};

/// What a change of a table is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableIndex {
    users: ServiceUsers,
    /// The app of each cgroup, by the path or pattern in the table.
    cgroups: HashMap<Cgroups, String>,
    /// The VIPs that relationships to different services share, by app. Such services must stay equal.
    shared: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

impl TableIndex {
    /// The index of a table.
    pub fn of(table: &Table) -> Self {
        let users = ServiceUsers::of(table);
        let mut index = Self { users, ..Self::default() };
        table.apps.iter().for_each(|(name, app)| index.add(name, app));
        index
    }

    /// The VIPs that lead to each service.
    pub fn users(&self) -> &ServiceUsers {
        &self.users
    }

    /// Whether a change may have broken a rule that concerns several objects. `table` is the new one, the
    /// index is that of the old one, and `undo` has what was replaced.
    pub(super) fn may_be_broken(&self, table: &Table, undo: &TableChanges) -> bool {
        let TableChanges { services, apps } = undo;
        let mut names = services.keys().chain(apps.keys());
        table.apps.is_empty()
            || names.any(|name| check_name(name).is_err())
            || services.keys().any(|name| self.may_break_users(name, table, apps))
            || apps.keys().any(|name| {
                table.apps.get(name).is_some_and(|app| contradicts(app, &table.services))
            })
            || self.share_a_cgroup(table, apps)
    }

    /// Whether a changed service may break apps that are not changed.
    fn may_break_users(
        &self,
        service: &str,
        table: &Table,
        changed: &BTreeMap<String, Option<App>>,
    ) -> bool {
        let removed = !table.services.contains_key(service);
        let mut others = self.users.apps(service).filter(|(app, _)| !changed.contains_key(*app));
        others.any(|(app, vips)| {
            let shared = self.shared.get(app);
            removed || shared.is_some_and(|shared| vips.iter().any(|vip| shared.contains(vip)))
        })
    }

    /// Whether a changed app has a cgroup that another app has as well.
    fn share_a_cgroup(&self, table: &Table, changed: &BTreeMap<String, Option<App>>) -> bool {
        let mut new = HashSet::new();
        let changed_apps = changed.keys().filter_map(|name| table.apps.get(name));
        changed_apps.filter_map(|app| app.cgroup.as_ref()).any(|cgroup| {
            let other = self.cgroups.get(cgroup);
            !new.insert(cgroup) || other.is_some_and(|other| !changed.contains_key(other))
        })
    }

    /// Follows a change. `table` is the new one, and `undo` has what was replaced.
    pub(super) fn update(&mut self, table: &Table, undo: &TableChanges, difference: &Difference) {
        self.users.update(table, difference);
        for (name, old) in &undo.apps {
            self.shared.remove(name);
            if let Some(cgroup) = old.as_ref().and_then(|old| old.cgroup.as_ref()) {
                self.cgroups.remove(cgroup);
            }
        }
        for name in undo.apps.keys() {
            if let Some(app) = table.apps.get(name) {
                self.add(name, app);
            }
        }
    }

    /// Adds the cgroup of an app, and its shared VIPs.
    fn add(&mut self, name: &str, app: &App) {
        if let Some(cgroup) = &app.cgroup {
            self.cgroups.insert(cgroup.clone(), name.to_owned());
        }
        let shared = app.shared().into_iter();
        let shared = shared
            .filter(|(_, all)| all.windows(2).any(|two| two[0].1.service != two[1].1.service));
        let vips: BTreeSet<_> = shared.map(|(vip, _)| vip).collect();
        if !vips.is_empty() {
            self.shared.insert(name.to_owned(), vips);
        }
    }
}

/// Whether a service of an app is missing, or relationships that share a VIP differ.
fn contradicts<'a>(app: &'a App, services: &BTreeMap<String, Service>) -> bool {
    let mut known: Option<&'a Arc<str>> = None;
    let missing = |service: &'a Arc<str>| {
        // Most relationships have the service of the one before.
        known != Some(service) && {
            known = Some(service);
            !services.contains_key(&**service)
        }
    };
    app.relationships.values().map(|of| &of.service).any(missing)
        || app.shared().values().any(|all| {
            all.windows(2).any(|two| {
                let [one, other] = [two[0].1, two[1].1].map(|of| (of, &services[&*of.service]));
                difference(one, other).is_some()
            })
        })
}
