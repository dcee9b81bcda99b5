//! The names of relationships and services, which the kernel does not need and people do.
//!
//! Kept beside the pinned state, in `/run/vipnat`, which lives as long as bpffs does. Without it,
//! `list` and `apply` show VIPs and no names, and what is connected through relationships that are
//! removed stays connected.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::table::{OnBackendRemoved, Table};

/// Where the files of vipnat are that live as long as bpffs does, some for each state directory.
pub(crate) const DIRECTORY: &str = "/run/vipnat";

/// Makes it. What apps there are, and what they use, is as little anybody's business as the maps are.
pub(crate) fn directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)
}

/// Names by app and VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(BTreeMap<String, BTreeMap<Ipv4Addr, Names>>);

/// What people call a VIP of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The relationship.
    pub relationship: String,
    /// The service it points to.
    pub service: String,
    /// What becomes of connections when the relationship itself is removed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_backend_removed: OnBackendRemoved,
}

fn is_default(value: &OnBackendRemoved) -> bool {
    *value == OnBackendRemoved::default()
}

impl Record {
    /// The names in a table.
    pub fn of(table: &Table) -> Self {
        let apps = table.apps.iter().map(|(app, relationships)| {
            let names = relationships.relationships.iter().map(|(name, relationship)| {
                let service = relationship.service.to_string();
                let on_backend_removed = table.services[&service].on_backend_removed;
                (
                    relationship.vip,
                    Names { relationship: name.to_owned(), service, on_backend_removed },
                )
            });
            (app.clone(), names.collect())
        });
        Self(apps.collect())
    }

    /// The record of a state directory; empty if there is none that can be read.
    pub fn load(state: &Path) -> Self {
        let text = fs::read_to_string(beside(state, "json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes the record of a state directory, in place of the one before, unless it is the same.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        let file = beside(state, "json");
        if *self == Self::load(state) {
            return tidy(&file);
        }
        replace(&file, self)
    }

    /// Removes the record of a state directory, if there is one.
    ///
    /// # Errors
    ///
    /// If it is there and stays.
    pub fn remove(state: &Path) -> io::Result<()> {
        remove(&beside(state, "json"))
    }

    /// Forgets an app.
    pub fn forget(&mut self, app: &str) {
        self.0.remove(app);
    }

    /// What people call a VIP of an app.
    pub fn names(&self, app: &str, vip: Ipv4Addr) -> Option<&Names> {
        self.0.get(app)?.get(&vip)
    }
}

/// A file that belongs to a state directory: `/sys/fs/bpf/vipnat` has
/// `/run/vipnat/sys-fs-bpf-vipnat.json`.
pub(crate) fn beside(state: &Path, extension: &str) -> PathBuf {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'/');
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let state = state.to_string_lossy();
    let name = utf8_percent_encode(state.trim_matches('/'), KEEP).to_string();
    Path::new(DIRECTORY).join(name.replace('/', "-")).with_added_extension(extension)
}

/// Writes a value to such a file, in place of what is there: all of it or nothing.
pub(crate) fn replace(file: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = new_file(file);
    directory()?;
    let mut options = OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    open.write_all(&serde_json::to_vec_pretty(value)?)?;
    fs::rename(new, file)
}

/// Removes such a file, if it is there, and what an interrupted command left beside it.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    tidy(file)?;
    remove_file(file)
}

/// Removes what an interrupted command left beside such a file.
pub(crate) fn tidy(file: &Path) -> io::Result<()> {
    remove_file(&new_file(file))
}

fn new_file(file: &Path) -> PathBuf {
    file.with_added_extension("new")
}

fn remove_file(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_before_there_was_a_policy_load_and_records_without_one_look_like_them() {
        let text = r#"{"shop":{"169.254.37.209":{"relationship":"db","service":"postgres"}}}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let names = record.names("shop", Ipv4Addr::new(169, 254, 37, 209)).unwrap();
        assert_eq!(names.on_backend_removed, OnBackendRemoved::Keep);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        for (policy, removed) in
            [(r#""kill""#, OnBackendRemoved::Kill), (r#"{"drain":5}"#, OnBackendRemoved::Drain(5))]
        {
            let text = text.replace("\"}", &format!("\",\"on_backend_removed\":{policy}}}"));
            let record: Record = serde_json::from_str(&text).unwrap();
            let names = record.names("shop", Ipv4Addr::new(169, 254, 37, 209)).unwrap();
            assert_eq!(names.on_backend_removed, removed);
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
    }
}
