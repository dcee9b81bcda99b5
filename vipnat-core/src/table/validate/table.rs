//! Checks a table as it is written: returns a [`Table`] without mistakes, or all mistakes.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path as FilePath,
};

use super::{checker::Checker, relationship::Services};
use crate::{
    table::{
        error::{Problems, TableError},
        key_path::KeyPathRef,
        model::{App, ByName, Cgroups, Service, Table},
        parse::{named::Named, raw},
    },
    text::quoted,
};

/// The checked table, or all problems that a check finds.
pub(crate) fn validate(raw: &raw::Table<'_>, cgroup_mount: &FilePath) -> Result<Table, Problems> {
    let mut checker = Checker::new(cgroup_mount);
    let table = checker.table(raw);
    checker.result(table)
}

/// Checks how the objects of a table fit together. Each of them was checked by itself.
pub(crate) fn check_links(table: &Table) -> Result<(), Problems> {
    // The paths of cgroups are part of each app.
    let mut checker = Checker::new(FilePath::new(""));
    let Table { services, apps } = table;
    checker.has_apps(apps.len());
    let path = KeyPathRef::Root.key("services");
    services.keys().for_each(|name| checker.name(&path.key(name), name));
    let services = Services::of(services);
    let path = KeyPathRef::Root.key("apps");
    let mut cgroups = HashMap::new();
    for (name, app) in apps {
        let path = path.key(name);
        checker.name(&path, name);
        checker.links(&path.key("relationships"), &app.relationships, &[], &services);
        checker.own_cgroup(&path, name, app, &mut cgroups);
    }
    checker.result(())
}

/// A service by itself. `path` is that of the service.
pub(crate) fn validate_service(
    path: &KeyPathRef<'_>,
    name: &str,
    raw: &raw::Service<'_>,
) -> Result<Service, Problems> {
    let mut checker = Checker::new(FilePath::new(""));
    checker.name(path, name);
    let service = checker.service(path, raw);
    checker.result(service)
}

/// An app by itself: its services may not exist, and its relationships may contradict each other. `path` is
/// that of the app.
pub(crate) fn validate_app(
    path: &KeyPathRef<'_>,
    name: &str,
    raw: &raw::App<'_>,
    cgroup_mount: &FilePath,
) -> Result<App, Problems> {
    let mut checker = Checker::new(cgroup_mount);
    checker.name(path, name);
    let app = checker.app(path, raw, None);
    checker.result(app)
}

impl App {
    /// An app without relationships. `file` is the name in error messages; `cgroup_mount` is the mount
    /// point of cgroup v2.
    ///
    /// # Errors
    ///
    /// The mistakes in its name and its cgroup.
    pub fn new(
        name: &str,
        cgroup: &str,
        file: &str,
        cgroup_mount: &FilePath,
    ) -> Result<Self, TableError> {
        let path = KeyPathRef::Root.key("apps");
        let raw = raw::App { cgroup: Some(cgroup.into()), relationships: Named::default() };
        validate_app(&path.key(name), name, &raw, cgroup_mount)
            .map_err(|problems| TableError::new(file, problems))
    }
}

impl Checker<'_> {
    fn table(&mut self, raw: &raw::Table<'_>) -> Table {
        let raw::Table { services, apps } = raw;
        self.has_apps(apps.len());
        let path = KeyPathRef::Root.key("services");
        let services: BTreeMap<_, _> = services
            .iter()
            .map(|(name, service)| {
                let path = path.key(name);
                self.name(&path, name);
                (name.to_owned(), self.service(&path, service))
            })
            .collect();
        let known = Services::of(&services);
        let path = KeyPathRef::Root.key("apps");
        let mut cgroups = HashMap::new();
        let apps = apps
            .iter()
            .map(|(name, app)| {
                let path = path.key(name);
                self.name(&path, name);
                let app = self.app(&path, app, Some(&known));
                self.own_cgroup(&path, name, &app, &mut cgroups);
                (name.to_owned(), app)
            })
            .collect();
        Table { services, apps }
    }

    fn has_apps(&mut self, apps: usize) {
        if apps == 0 {
            self.problem(
                &KeyPathRef::Root,
                "the table has no apps",
                "add one, like [apps.shop]; to remove everything, use `vipnat flush`",
            );
        }
    }

    /// Checks that no other app has the same cgroup.
    fn own_cgroup<'a>(
        &mut self,
        path: &KeyPathRef<'_>,
        name: &'a str,
        app: &App,
        cgroups: &mut HashMap<Cgroups, &'a str>,
    ) {
        if let Some(cgroup) = &app.cgroup
            && let Some(other) = cgroups.insert(cgroup.clone(), name)
        {
            self.problem(
                &path.key("cgroup"),
                format!("apps {} and {} have the same cgroup", quoted(other), quoted(name)),
                "give each app its own cgroup; one app can have any number of relationships",
            );
        }
    }

    /// Checks an app. Without `services`, its services are not checked, nor which relationships share a VIP.
    fn app(
        &mut self,
        path: &KeyPathRef<'_>,
        app: &raw::App<'_>,
        services: Option<&Services<'_>>,
    ) -> App {
        let raw::App { cgroup, relationships: raw } = app;
        let cgroup = cgroup.as_deref().and_then(|cgroup| self.cgroup(&path.key("cgroup"), cgroup));
        let path = path.key("relationships");
        let mut relationships = ByName::with_capacity(raw.len());
        let mut lists_of_one = Vec::new();
        for (name, endpoints) in raw.iter() {
            let path = path.key(name);
            self.name(&path, name);
            match endpoints {
                raw::Endpoints::One(one) => {
                    let one = self.relationship(&path, name, one);
                    relationships.push(name, one);
                }
                raw::Endpoints::List(list) => {
                    match list.len() {
                        0 => self.problem(
                            &path,
                            "a relationship without an endpoint",
                            "remove it, or give it one: [[…]] with `service`",
                        ),
                        1 => lists_of_one.push(relationships.len()),
                        _ => {}
                    }
                    for (number, one) in list.iter().enumerate() {
                        let one = self.relationship(&path.index(number), name, one);
                        relationships.push(name, one);
                    }
                }
            }
        }
        if let Some(services) = services {
            self.links(&path, &relationships, &lists_of_one, services);
        }
        App { cgroup, relationships }
    }

    /// What was checked, or all problems.
    fn result<T>(self, checked: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(checked) } else { Err(self.problems) }
    }
}
