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
        model::{App, ByName, Relationship, Table, difference},
        parse::{named::Named, raw},
    },
    text::quoted,
};

/// The checked table, or all problems that a check finds.
pub(crate) fn validate(raw: &raw::Table<'_>, cgroup_mount: &FilePath) -> Result<Table, Problems> {
    let mut checker = Checker::new(cgroup_mount);
    let table = checker.table(raw);
    if checker.problems.is_empty() { Ok(table) } else { Err(checker.problems) }
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
        let mut checker = Checker::new(cgroup_mount);
        let path = KeyPathRef::Root.key("apps");
        let path = path.key(name);
        checker.name(&path, name);
        let raw = raw::App { cgroup: Some(cgroup.into()), relationships: Named::default() };
        let app = checker.app(&path, &raw, &Services::of(&BTreeMap::new()));
        match checker.problems {
            problems if problems.is_empty() => Ok(app),
            problems => Err(TableError::new(file, problems)),
        }
    }
}

impl Checker<'_> {
    fn table(&mut self, raw: &raw::Table<'_>) -> Table {
        let raw::Table { services, apps } = raw;
        if apps.is_empty() {
            self.problem(
                &KeyPathRef::Root,
                "the table has no apps",
                "add one, like [apps.shop]; to remove everything, use `vipnat flush`",
            );
        }
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
                let app = self.app(&path, app, &known);
                if let Some(cgroup) = &app.cgroup
                    && let Some(other) = cgroups.insert(cgroup.clone(), name)
                {
                    self.problem(
                        &path.key("cgroup"),
                        format!("apps {} and {} have the same cgroup", quoted(other), quoted(name)),
                        "give each app its own cgroup; one app can have any number of relationships",
                    );
                }
                (name.to_owned(), app)
            })
            .collect();
        Table { services, apps }
    }

    fn app(&mut self, path: &KeyPathRef<'_>, app: &raw::App<'_>, services: &Services<'_>) -> App {
        let raw::App { cgroup, relationships: raw } = app;
        let cgroup = cgroup.as_deref().and_then(|cgroup| self.cgroup(&path.key("cgroup"), cgroup));
        let path = path.key("relationships");
        let mut relationships = ByName::with_capacity(raw.len());
        for (name, endpoints) in raw.iter() {
            let path = path.key(name);
            self.name(&path, name);
            match endpoints {
                raw::Endpoints::One(one) => {
                    let one = self.relationship(&path, name, one, services);
                    relationships.push(name, one);
                    self.hold(&path, &relationships, services);
                }
                raw::Endpoints::List(list) if list.is_empty() => self.problem(
                    &path,
                    "a relationship without an endpoint",
                    "remove it, or give it one: [[…]] with `service`",
                ),
                raw::Endpoints::List(list) => {
                    for (number, one) in list.iter().enumerate() {
                        let path = path.index(number);
                        let one = self.relationship(&path, name, one, services);
                        relationships.push(name, one);
                        self.hold(&path, &relationships, services);
                    }
                }
            }
        }
        self.holders.next_app(relationships.len());
        App { cgroup, relationships }
    }

    /// Checks the VIP of the last of these. Another may have the same VIP if one mapping serves both.
    fn hold(
        &mut self,
        path: &KeyPathRef<'_>,
        relationships: &ByName<Relationship>,
        services: &Services<'_>,
    ) {
        let number = relationships.len() - 1;
        let one = relationships.nth(number);
        let Some(other_number) = self.holders.give(one.vip, number) else {
            return;
        };
        let other = relationships.nth(other_number);
        let service =
            |of: &Relationship| services.named.get(&*of.service).map(|(_, service)| *service);
        // A missing service was reported already.
        let (Some(service), Some(others)) = (service(one), service(other)) else {
            return;
        };
        if let Some(what) = difference((one, service), (other, others)) {
            let (name, other_name) =
                (relationships.label(number), relationships.label(other_number));
            self.problem(
                path,
                format!(
                    "relationships {} and {} have the same VIP {}, but differ in `{what}`",
                    quoted(&other_name),
                    quoted(&name),
                    one.vip
                ),
                "let both say the same, or set `vip` on one; a VIP is never moved silently",
            );
        }
    }
}
