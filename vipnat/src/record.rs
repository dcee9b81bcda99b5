//! The names of relationships and services, which the kernel does not need and people do.
//!
//! Kept beside the pinned state, in `/run/vipnat`, which lives as long as bpffs does. Nothing
//! depends on it: without it, `list` and `apply` show VIPs and no names.

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::table::Table;

/// Where the records are, one for each state directory.
const RECORDS: &str = "/run/vipnat";

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
}

impl Record {
    /// The names in a table.
    pub fn of(table: &Table) -> Self {
        let apps = table.apps.iter().map(|(app, relationships)| {
            let names = relationships.relationships.iter().map(|(name, relationship)| {
                let service = relationship.service.clone();
                (relationship.vip, Names { relationship: name.clone(), service })
            });
            (app.clone(), names.collect())
        });
        Self(apps.collect())
    }

    /// The record of a state directory; empty if there is none that can be read.
    pub fn load(state: &Path) -> Self {
        let text = fs::read_to_string(file(state)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes the record of a state directory, in place of the one before, unless it is the same.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        let (file, new) = (file(state), new_file(state));
        if *self == Self::load(state) {
            return remove(&new);
        }
        fs::create_dir_all(RECORDS)?;
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, file)
    }

    /// Removes the record of a state directory, if there is one.
    ///
    /// # Errors
    ///
    /// If it is there and stays.
    pub fn remove(state: &Path) -> io::Result<()> {
        remove(&new_file(state))?;
        remove(&file(state))
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

/// A record that is yet to take its place, or was, when a crash came.
fn new_file(state: &Path) -> PathBuf {
    file(state).with_extension("new")
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `/sys/fs/bpf/vipnat` has `/run/vipnat/sys-fs-bpf-vipnat.json`.
fn file(state: &Path) -> PathBuf {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'/');
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let state = state.to_string_lossy();
    let name = utf8_percent_encode(state.trim_matches('/'), KEEP).to_string();
    Path::new(RECORDS).join(name.replace('/', "-")).with_added_extension("json")
}
