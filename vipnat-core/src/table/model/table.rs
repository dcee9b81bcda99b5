//! The checked table: its types hold nothing that a check would refuse.

use std::{collections::BTreeMap, net::Ipv4Addr, num::NonZeroU16, sync::Arc};

use serde_json::{Map, Value};
use vipnat_common::Protocol;

use super::{
    by_name::ByName,
    cgroups::Cgroups,
    service::{Backend, Service},
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
    /// The backends of a relationship.
    ///
    /// # Panics
    ///
    /// If the relationship is not of this table.
    pub fn backends(&self, relationship: &Relationship) -> &[Backend] {
        &self.services[&*relationship.service].backends
    }
}
