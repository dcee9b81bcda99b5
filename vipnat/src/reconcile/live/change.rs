//! Makes a change of the table, for the VIPs and apps that it touches.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::Ipv4Addr,
    time::Duration,
};

use vipnat_core::{
    model::{BackendSet, Change, Desired, DesiredApp, Mapping, NameIndex},
    plan::{self, MappingChange, Plan},
    table::{Difference, OnBackendRemoved, Table},
};

use super::{
    moved_apps::{MovedApps, find_moved},
    state::Live,
};
use crate::{
    kernel::{
        cgroup::{Paths, Tree},
        error::Result,
    },
    reconcile::{
        apply::report,
        context::Context,
        diff::{Attachments, Diff, app_changes},
        disconnect::{self, DueDisconnects},
        execute::execute,
        observe::ObservedApps,
        outcome::Applied,
        resolve::MissingCgroup,
    },
    state::{links, name_index, pending_disconnects::PendingDisconnects, state_dir::StateDir},
};

/// VIPs by app.
type Touched = BTreeMap<String, BTreeSet<Ipv4Addr>>;

/// See [`Session::change`](crate::reconcile::Session::change). An error shows again in the full apply, or is
/// gone.
pub(crate) fn change(
    context: &Context,
    mut live: Live,
    table: &Table,
    difference: &Difference,
) -> (Applied, Option<Live>) {
    let mut applied = Applied::default();
    let Ok(Some(due)) = make(context, &mut live, table, difference, &mut applied) else {
        return (applied, None);
    };
    disconnect::disconnect(context, due, &mut applied);
    (applied, Some(live))
}

/// Makes the change. The state stays locked until this returns.
fn make(
    context: &Context,
    live: &mut Live,
    table: &Table,
    difference: &Difference,
    applied: &mut Applied,
) -> Result<Option<DueDisconnects>> {
    let touched = live.users.touched(difference);
    let mut apps = touched.keys().chain(difference.apps.keys());
    if apps.any(|app| live.unsettled.contains(app)) {
        return Ok(None);
    }
    let Some(dir) = live.lock(&context.dir)? else {
        return Ok(None);
    };
    let tree = context.tree()?;
    let others = context.others(dir.path(), &tree);
    let last_app = live.maps.layout()?.last_app;
    let Some(moved) = find_moved(live, &dir, &tree, table, difference, last_app)? else {
        return Ok(None);
    };
    let names = Names::change(&mut live.names, table, &touched);
    let apps = ObservedApps {
        attached: &moved.attached,
        names: &names.before,
        last_app,
        switch: Some(live.maps.cgroups()),
        others: &others,
    };
    let Some(mut desired) = desired(live, table, &touched, &moved, &names) else {
        return Ok(None);
    };
    let diff = diff(live, &desired, &touched, &moved, apps)?;

    if diff.plan != Plan::default() || !moved.is_empty() || names.differ() {
        dir.begin_change()?;
    }
    find_cgroups_of_connections(&mut desired, live, &dir, &tree, &names)?;
    let (maps, content) = (&live.maps, &mut live.content);
    let warnings = &mut applied.warnings;
    let scheduled = disconnect::schedule(context, &desired, &diff, apps, Duration::ZERO, warnings)?;
    let executed = execute(&dir, maps, &diff, content.snapshot(), apps, MissingCgroup::Wait)?;
    let Ok::<(), Infallible>(()) = plan::execute(&executed.plan.steps(), content);
    live.unsettled.extend(executed.failed.keys().cloned());
    // Whatever fails below, this is done.
    report(applied, diff, executed, &moved.attached, false);
    let mappings = |drains: &PendingDisconnects| content.mappings_of(drains.vips());
    let due = disconnect::finish(context, scheduled, mappings, false, &mut applied.warnings)?;
    if names.differ() || !live.names_saved {
        let saved = name_index::replace(&live.names, &context.dir);
        live.names_saved = saved.is_ok();
        applied.warnings.extend(
            saved.err().map(|error| format!("cannot keep the names for `vipnat list`: {error}")),
        );
    }
    dir.end_change()?;
    dir.is_still_there()?;

    live.users.update(table, difference);
    for name in moved.names() {
        match moved.app_ids.get(name) {
            Some(app_id) => drop(live.app_ids.insert(name.to_owned(), *app_id)),
            None => drop(live.app_ids.remove(name)),
        }
    }
    let Some(generation) = dir.generation()? else {
        return Ok(None);
    };
    live.generation = generation;
    applied.warnings.extend(others.warning());
    Ok(Some(due))
}

/// The names of the touched VIPs.
struct Names {
    before: NameIndex,
    after: NameIndex,
}

impl Names {
    /// Brings all names up to date. If the change fails, they are dropped with the rest of [`Live`].
    fn change(all: &mut NameIndex, table: &Table, touched: &Touched) -> Self {
        let before = all.part(touched);
        all.update(table, touched);
        Self { before, after: all.part(touched) }
    }

    fn differ(&self) -> bool {
        self.before != self.after
    }
}

/// The touched apps with their touched VIPs and app ids; `None` if an app has no id.
fn desired(
    live: &Live,
    table: &Table,
    touched: &Touched,
    moved: &MovedApps,
    names: &Names,
) -> Option<Desired> {
    let mut sets: BTreeMap<&str, BackendSet> = BTreeMap::new();
    let mut apps = BTreeMap::new();
    let moved_apps = moved.desired.apps.keys();
    for name in touched.keys().chain(moved_apps).filter(|name| table.apps.contains_key(*name)) {
        let app_id = moved.app_ids.get(name).or_else(|| live.app_ids.get(name))?;
        let mut mappings = Vec::new();
        let touched = touched.get(name).map(|vips| table.apps[name].at(vips));
        for all in touched.iter().flat_map(BTreeMap::values) {
            // Those that share a VIP have the same backends.
            let (_, relationship) = all[0];
            let service = &*relationship.service;
            let set =
                sets.entry(service).or_insert_with(|| BackendSet::from(&table.services[service]));
            mappings.push(Mapping::new(relationship, set).of_app(*app_id));
        }
        apps.insert(name.clone(), DesiredApp { mappings, ..DesiredApp::default() });
    }
    Some(Desired { apps, names: names.after.clone() })
}

/// The difference for the touched VIPs and the moved apps.
fn diff(
    live: &Live,
    desired: &Desired,
    touched: &Touched,
    moved: &MovedApps,
    apps: ObservedApps<'_>,
) -> Result<Diff> {
    let mut vips = BTreeSet::new();
    let mut names = BTreeMap::new();
    for (name, touched) in touched {
        // A removed and added app has two ids, but never in one change.
        let ids = [moved.app_ids.get(name), live.app_ids.get(name)];
        let Some(app_id) = ids.into_iter().flatten().next() else {
            continue;
        };
        names.insert(*app_id, name.as_str());
        vips.extend(touched.iter().map(|vip| (*app_id, *vip)));
    }
    let mappings = desired.apps.values().flat_map(|app| &app.mappings).cloned();
    let mappings: Vec<_> = mappings.collect();
    let plan = live.content.plan(&vips, &mappings)?;

    let current = links::current(apps.attached);
    let mut changes = app_changes(&moved.desired, apps.attached, &current);
    let Attachments { attach, changes: of_cgroups, owners, unseen } =
        Attachments::new(&moved.desired, apps, &current, &moved.app_ids)?;
    changes.extend(of_cgroups);
    let of_vips = live.content.changes(&mappings, &plan).into_iter();
    changes.extend(of_vips.map(|MappingChange { app_id, vip, old, new }| {
        let app = names[&app_id].to_owned();
        let relationship = desired.names.relationships(&app, vip);
        let relationship = relationship.or_else(|| apps.names.relationships(&app, vip));
        Change::Vip { app, relationship, vip, old, new }
    }));
    let app_ids = moved.app_ids.clone();
    Ok(Diff { plan, changes, attach, owners, app_ids, strays: false, unseen })
}

/// Finds the cgroups of apps whose connections may have to end: vipnat looks for the connections in these.
fn find_cgroups_of_connections(
    desired: &mut Desired,
    live: &Live,
    dir: &StateDir,
    tree: &Tree,
    names: &Names,
) -> Result<()> {
    let paths = Paths::of(tree);
    for (name, app) in &mut desired.apps {
        let ends = |mapping: &Mapping| {
            let all = [&names.before, &names.after].map(|names| names.names(name, mapping.vip));
            let keep = OnBackendRemoved::Keep;
            all.into_iter().flatten().any(|names| names.on_backend_removed != keep)
        };
        if let Some(app_id) = live.app_ids.get(name)
            && app.mappings.iter().any(ends)
        {
            let ids = links::cgroups_of(dir, *app_id, name)?;
            let places = ids.into_iter().map(|id| (id, paths.place(id)));
            app.cgroups =
                places.filter_map(|(id, place)| Some((id, place.path()?.to_owned()))).collect();
        }
    }
    Ok(())
}
