//! The names of relationships and services, which the kernel does not need and people do.
//!
//! Kept beside the pinned state, in `/run/vipnat`, which lives as long as bpffs does. Nothing
//! depends on it: without it, `list` and `apply` show VIPs and no names.

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

use crate::table::Table;

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
        let text = fs::read_to_string(file(state, "json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes the record of a state directory, in place of the one before, unless it is the same.
    ///
    /// # Errors
    ///
    /// If the directory or file cannot be written.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        if *self == Self::load(state) {
            return Ok(());
        }
        let file = file(state, "json");
        let new = file.with_extension("new");
        directory()?;
        let mut options = OpenOptions::new();
        let mut record = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        record.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, file)
    }

    /// Removes the record of a state directory, if there is one.
    ///
    /// # Errors
    ///
    /// If it is there and stays.
    pub fn remove(state: &Path) -> io::Result<()> {
        match fs::remove_file(file(state, "json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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

/// `/sys/fs/bpf/vipnat` has `/run/vipnat/sys-fs-bpf-vipnat.json`.
pub(crate) fn file(state: &Path, extension: &str) -> PathBuf {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'/');
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let state = state.to_string_lossy();
    let name = utf8_percent_encode(state.trim_matches('/'), KEEP).to_string();
    Path::new(DIRECTORY).join(name.replace('/', "-")).with_added_extension(extension)
}
