//! The VIPs that lead to each service, so that a changed service costs only its users.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{difference::Difference, model::Table};

/// The VIPs of apps whose relationships point to each service.
///
/// The VIPs of an app are a sorted list. As sets of pairs they take several times the memory, and most
/// services have one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceUsers(FxHashMap<Arc<str>, Vec<AppUses>>);

/// The VIPs of one app that lead to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AppUses {
    app: Arc<str>,
    /// In order.
    vips: Vec<Ipv4Addr>,
}

impl ServiceUsers {
    /// The users of all services of a table.
    pub fn of(table: &Table) -> Self {
        let mut users: FxHashMap<Arc<str>, Vec<AppUses>> = FxHashMap::default();
        for (name, app) in &table.apps {
            let name: Arc<str> = name.as_str().into();
            for relationship in app.relationships.values() {
                let uses = match users.get_mut(&relationship.service) {
                    Some(uses) => uses,
                    None => users.entry(Arc::clone(&relationship.service)).or_default(),
                };
                // Apps come one after the other, so this app is the last one, if it is there.
                match uses.last_mut().filter(|last| last.app == name) {
                    Some(last) => last.vips.push(relationship.vip),
                    None => {
                        let vips = vec![relationship.vip];
                        // Most services have one user.
                        uses.reserve_exact(usize::from(uses.is_empty()));
                        uses.push(AppUses { app: Arc::clone(&name), vips });
                    }
                }
            }
        }
        for AppUses { vips, .. } in users.values_mut().flatten() {
            vips.sort_unstable();
            vips.dedup();
        }
        Self(users)
    }

    /// The apps with VIPs that lead to a service, and these VIPs. Both are in order.
    pub fn users(&self, service: &str) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        self.apps(service).flat_map(|(app, vips)| vips.iter().map(move |vip| (app, *vip)))
    }

    /// The apps with VIPs that lead to a service, with these VIPs.
    pub(super) fn apps(&self, service: &str) -> impl Iterator<Item = (&str, &[Ipv4Addr])> {
        self.0.get(service).into_iter().flatten().map(|AppUses { app, vips }| (&**app, &**vips))
    }

    /// Follows a change of the table, which is the new one.
    pub fn update(&mut self, table: &Table, difference: &Difference) {
        for (name, difference) in &difference.apps {
            for (service, vips) in &difference.left {
                self.remove(service, name, vips);
            }
            let Some(app) = table.apps.get(name) else {
                continue;
            };
            let name: Arc<str> = name.as_str().into();
            for (vip, all) in app.at(&difference.vips) {
                for (_, relationship) in all {
                    self.add(&relationship.service, &name, vip);
                }
            }
        }
    }

    /// The VIPs, by app, that a change touches: those whose relationships differ, and those that lead to a
    /// service that differs. It makes no difference whether [`Self::update`] comes before or after.
    pub fn touched(&self, difference: &Difference) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
        self.with_users(difference, &difference.services)
    }

    /// The VIPs, by app, whose names and policies may differ after a change: as [`Self::touched`], without
    /// the users of services that differ in other keys than `on-backend-removed`.
    pub fn renamed(&self, difference: &Difference) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
        self.with_users(difference, &difference.policies)
    }

    /// The VIPs whose relationships differ, and those that lead to these services.
    fn with_users(
        &self,
        difference: &Difference,
        services: &BTreeSet<String>,
    ) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
        let differ = difference.apps.iter().filter(|(_, app)| !app.vips.is_empty());
        let mut all: BTreeMap<_, _> =
            differ.map(|(name, app)| (name.clone(), app.vips.clone())).collect();
        for uses in services.iter().filter_map(|service| self.0.get(service.as_str())) {
            for AppUses { app, vips } in uses {
                match all.get_mut(&**app) {
                    Some(all) => all.extend(vips),
                    None => {
                        all.insert((**app).to_owned(), vips.iter().copied().collect());
                    }
                }
            }
        }
        all
    }

    fn add(&mut self, service: &Arc<str>, app: &Arc<str>, vip: Ipv4Addr) {
        let uses = self.0.entry(Arc::clone(service)).or_default();
        match uses.binary_search_by(|uses| uses.app.cmp(app)) {
            Ok(at) => {
                let vips = &mut uses[at].vips;
                if let Err(at) = vips.binary_search(&vip) {
                    vips.insert(at, vip);
                }
            }
            Err(at) => uses.insert(at, AppUses { app: Arc::clone(app), vips: vec![vip] }),
        }
    }

    fn remove(&mut self, service: &str, app: &str, gone: &BTreeSet<Ipv4Addr>) {
        let Some(uses) = self.0.get_mut(service) else {
            return;
        };
        let Ok(at) = uses.binary_search_by(|uses| (*uses.app).cmp(app)) else {
            return;
        };
        let vips = &mut uses[at].vips;
        vips.retain(|vip| !gone.contains(vip));
        if vips.is_empty() {
            uses.remove(at);
        }
        if uses.is_empty() {
            self.0.remove(service);
        }
    }
}

#[cfg(test)]
mod tests;
