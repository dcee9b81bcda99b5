//! Finds passwords in a table whose file other users can read.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use vipnat_core::{table::Table, text::names_a_secret};

use super::file::display_name;

/// Returns a warning if the table has passwords, and users other than its owner can read its file.
pub(crate) fn exposed_passwords(file: &Path, table: &Table) -> Option<String> {
    if !can_be_read_by_others(file) {
        return None;
    }
    let apps = table.apps.iter();
    let mut endpoints = apps.flat_map(|(app, of_app)| {
        of_app.relationships.iter().map(move |(name, it)| (app, name, &it.endpoint))
    });
    let (app, name, _) = endpoints
        .find(|(_, _, endpoint)| endpoint.iter().any(|(key, value)| has_secret(key, value)))?;
    let file = display_name(file);
    Some(format!(
        "{file}: other users can read it, and it has passwords (the endpoint of \
         apps.{app}.relationships.{name} has one); run: chmod 600 {file}"
    ))
}

fn has_secret(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => {
            !text.is_empty() && (names_a_secret(key) || text.contains("://") && text.contains("@"))
        }
        Value::Array(list) => list.iter().any(|value| has_secret(key, value)),
        Value::Object(object) => object.iter().any(|(key, value)| has_secret(key, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether users other than root and the owner can open a file. They need access to each directory on the
/// way, too.
fn can_be_read_by_others(file: &Path) -> bool {
    let Ok(path) = fs::canonicalize(file) else {
        return false;
    };
    let open = |path: PathBuf, for_all: u32| {
        fs::metadata(path).is_ok_and(|metadata| {
            // The group of root has no other users in it.
            let group = if metadata.gid() == 0 { 0 } else { for_all << 3 };
            metadata.mode() & (for_all | group) != 0
        })
    };
    let mut directories = path.ancestors().skip(1);
    open(path.clone(), 0o4) && directories.all(|directory| open(directory.to_owned(), 0o1))
}
