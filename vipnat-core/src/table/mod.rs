//! The relationship table: all services, apps and relationships of one machine.
//!
//! [`Table::parse`] turns text into a [`Table`] or says everything that is wrong with it. What it
//! returns is checked: nothing downstream can hold a bad VIP, an unknown service or a cgroup
//! outside the mount.

mod by_name;
mod cgroup;
mod cgroup_index;
mod check;
mod endpoint;
mod error;
mod holders;
mod locate;
mod named;
mod path;
mod platform;
mod raw;
mod service;
mod shared;
mod vip;
mod well_known;
mod write;

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU16, path::Path, sync::Arc};

use serde_json::{Map, Value};
use vipnat_common::Protocol;

use self::locate::locate;
pub use self::{
    by_name::ByName,
    cgroup::{Cgroups, Component, Names},
    cgroup_index::{CgroupIndex, Owner, Position},
    check::check_name,
    error::{Problem, TableError},
    platform::{Imported, Unsupported},
    service::{Backend, OnBackendRemoved, Select, Service, UdpPinning},
    vip::vip_of,
    write::NotToml,
};
pub(crate) use self::{
    check::{never_a_backend, never_a_vip},
    service::gcd,
    vip::is_reserved,
    well_known::well_known,
};

/// A checked relationship table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The services, by name.
    pub services: BTreeMap<String, Service>,
    /// The apps, by name; at least one, no two with the same cgroup.
    pub apps: BTreeMap<String, App>,
}

/// A container, or several alike: the cgroups whose sockets are translated.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Below the cgroup v2 mount; never the mount itself. `None`: those that are attached by hand.
    pub cgroup: Option<Cgroups>,
    /// The endpoints of its relationships, by the name of the relationship, which may have several.
    /// Those with one VIP say the same of it.
    pub relationships: ByName<Relationship>,
}

/// A named dependency of an app on a service, or one of its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Relationship {
    /// The name of a service of the same table; shared, since there are far fewer services.
    pub service: Arc<str>,
    /// In 169.254.0.0/16, and not the well-known address of another service.
    pub vip: Ipv4Addr,
    /// The only port to translate; `None`: all.
    pub port: Option<NonZeroU16>,
    /// The only protocol to translate, TCP or UDP; `None`: all that have connect-time hooks.
    pub protocol: Option<Protocol>,
    /// Whether the application reads `instance_ips`, the backends.
    pub instance_ips: bool,
    /// What the application reads back, beside what vipnat fills in; shared by those without any.
    pub endpoint: Arc<Map<String, Value>>,
}

impl Table {
    /// Reads and checks a table: JSON if the first character is `{`, TOML otherwise.
    ///
    /// `file` is the name that errors give; `cgroup_mount` is where cgroup v2 is mounted, which
    /// absolute cgroup paths must be below. Touches nothing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the table, each with its line and column. A syntax error or a
    /// wrong type ends the reading, so it comes alone.
    pub fn parse(bytes: &[u8], file: &str, cgroup_mount: &Path) -> Result<Self, TableError> {
        let format = raw::Format::of(bytes);
        let text = raw::utf8(bytes).map_err(|problem| TableError::one(file, problem))?;
        let raw = format.read(text).map_err(|problem| TableError::one(file, problem))?;
        let checked = check::check(&raw, cgroup_mount);
        // As large as the text, which is read again to find places in it.
        drop(raw);
        checked.map_err(|mut problems| {
            problems.place(|problems| locate(text, format, problems));
            TableError::new(file, problems)
        })
    }

    /// The backends of a relationship.
    ///
    /// # Panics
    ///
    /// If the relationship is not of this table.
    pub fn backends(&self, relationship: &Relationship) -> &[Backend] {
        &self.services[&*relationship.service].backends
    }
}
