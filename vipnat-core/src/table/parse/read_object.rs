//! From JSON to one [`Service`] or [`App`], for a store that keeps each of them by itself.

use std::path::Path;

use serde::Deserialize;

use super::{
    document::{Format, json, utf8},
    locate::locate,
    raw,
};
use crate::table::{
    error::{Problems, TableError},
    key_path::KeyPathRef,
    model::{App, Service},
    validate::{validate_app, validate_service},
};

impl Service {
    /// Reads and checks a service: the JSON object that a table has below its name. `source` is the name of
    /// the text in error messages.
    ///
    /// # Errors
    ///
    /// All mistakes in its name and in the object, as [`Table::parse`](crate::table::Table::parse) has them.
    pub fn parse(bytes: &[u8], name: &str, source: &str) -> Result<Self, TableError> {
        let check =
            |path: &KeyPathRef<'_>, raw: &raw::Service<'_>| validate_service(path, name, raw);
        parse::<raw::Service<'_>, raw::Service<'_>, _>(bytes, ["services", name], source, check)
    }
}

impl App {
    /// Reads and checks an app by itself: the JSON object that a table has below its name. `source` is the
    /// name of the text in error messages; `cgroup_mount` is the mount point of cgroup v2.
    ///
    /// Whether it fits a table is checked by [`Table::change`](crate::table::Table::change): its services may
    /// not exist, and its relationships may contradict each other.
    ///
    /// # Errors
    ///
    /// All mistakes in its name and in the object, as [`Table::parse`](crate::table::Table::parse) has them.
    pub fn parse(
        bytes: &[u8],
        name: &str,
        source: &str,
        cgroup_mount: &Path,
    ) -> Result<Self, TableError> {
        let check =
            |path: &KeyPathRef<'_>, raw: &raw::App<'_>| validate_app(path, name, raw, cgroup_mount);
        parse::<raw::App<'_>, raw::App<'_, true>, _>(bytes, ["apps", name], source, check)
    }
}

/// Reads and checks an object, which a table has at this path.
fn parse<'a, Raw: Deserialize<'a>, Careful: Deserialize<'a>, Checked>(
    bytes: &'a [u8],
    path: [&str; 2],
    source: &str,
    check: impl FnOnce(&KeyPathRef<'_>, &Raw) -> Result<Checked, Problems>,
) -> Result<Checked, TableError> {
    let error = |problem| TableError::one(source, problem);
    let text = utf8(bytes).map_err(|problem| error(problem.below(&path)))?;
    let raw = json::<Raw, Careful>(text).map_err(|problem| error(problem.below(&path)))?;
    let [kind, name] = path;
    check(&KeyPathRef::Root.key(kind).key(name), &raw).map_err(|mut problems| {
        problems.place(|problems| locate(text, Format::Json, path.len(), problems));
        TableError::new(source, problems)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    const MOUNT: &str = "/sys/fs/cgroup";

    #[test]
    fn an_object_is_read_as_in_a_table() {
        let service = r#"{ "backends": ["240.0.0.1"], "select": "random" }"#;
        let app = r#"{ "cgroup": "shop", "relationships": { "db": { "service": "postgres" } } }"#;
        let table = format!(
            r#"{{ "services": {{ "postgres": {service} }}, "apps": {{ "shop": {app} }} }}"#
        );
        let table = Table::parse(table.as_bytes(), "table", Path::new(MOUNT)).unwrap();
        let service = Service::parse(service.as_bytes(), "postgres", "s");
        assert_eq!(service.unwrap(), table.services["postgres"]);
        assert_eq!(
            App::parse(app.as_bytes(), "shop", "s", Path::new(MOUNT)).unwrap(),
            table.apps["shop"]
        );
    }

    #[test]
    fn a_mistake_has_its_path_in_the_table_and_its_place_in_the_object() {
        let service = |text: &str| {
            Service::parse(text.as_bytes(), "postgres", "store").unwrap_err().to_string()
        };
        let app = |text: &str| {
            let app = App::parse(text.as_bytes(), "shop", "store", Path::new(MOUNT));
            app.unwrap_err().to_string()
        };
        let all = [
            (
                service("{\n\"backends\": [\"169.254.1.1\"]}"),
                "store:2:14: services.postgres.backends[0].ip: backend 169.254.1.1 is in the range",
            ),
            (service("{"), "store:1:1: services.postgres: EOF"),
            (service("[]"), "store:1:2: services.postgres: invalid length 0"),
            (service(r#"{"backend": []}"#), "store:1:10: services.postgres.backend: unknown field"),
            (service("{\"backends\": []} x"), "store:1:18: services.postgres: trailing"),
            (service("backends = []"), "store:1:1: services.postgres: expected value"),
            (app(r#"{"cgroup": "/"}"#), "store:1:12: apps.shop.cgroup: cgroup \"/\" is not below"),
            (
                app(r#"{"relationships": {"a": {"service": "s"}, "a": {"service": "s"}}}"#),
                "store:1:64: apps.shop.relationships: invalid entry: found duplicate key",
            ),
            (
                app(r#"{"relationships": {"a": [{"service": "s", "port": 0}]}}"#),
                "store:1:51: apps.shop.relationships.a[0].port: port 0",
            ),
        ];
        let wrong: Vec<_> =
            all.iter().filter(|(error, begins)| !error.starts_with(begins)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let name = Service::parse(br#"{"backends": []}"#, "a b", "store").unwrap_err().to_string();
        assert!(name.contains("white space"), "{name}");
    }
}
