//! From the table as written to a [`Table`] that holds nothing bad, or all that is wrong with it.

mod checker;
mod service;

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::{Component, Path as FilePath, PathBuf},
    sync::Arc,
};

use vipnat_common::Protocol;

use self::checker::Checker;
pub(crate) use self::service::never_a_backend;
use super::{
    App, ByName, Cgroups, Relationship, Service, Table,
    endpoint::Endpoint,
    error::{Problems, TableError},
    name::check_name,
    named::Named,
    path::Place,
    raw,
    shared::difference,
    vip::{in_range, vip_of},
    well_known::well_known,
    write,
};
use crate::text::{may_be_secret, quoted, shown_key};

/// What leaving a port out means for a relationship.
const EVERY_PORT: &str = "to translate every port";

/// How many services are named to somebody who misses one.
const MAX_KNOWN: usize = 10;

/// Endpoint keys that vipnat fills in.
const FILLED_IN: [&str; 2] = ["ip", "instance_ips"];

pub(super) fn check(raw: &raw::Table<'_>, cgroup_mount: &FilePath) -> Result<Table, Problems> {
    let mut checker = Checker::new(cgroup_mount);
    let table = checker.table(raw);
    if checker.problems.is_empty() { Ok(table) } else { Err(checker.problems) }
}

impl App {
    /// An app without relationships. `file` is the name that errors give; `cgroup_mount` is where
    /// cgroup v2 is mounted.
    ///
    /// # Errors
    ///
    /// What is wrong with its name or its cgroup.
    pub fn new(
        name: &str,
        cgroup: &str,
        file: &str,
        cgroup_mount: &FilePath,
    ) -> Result<Self, TableError> {
        let mut checker = Checker::new(cgroup_mount);
        let path = Place::Root.key("apps");
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

/// What relationships need to know of services.
struct Services<'a> {
    /// They themselves, with their names, to be shared.
    named: HashMap<&'a str, (Arc<str>, &'a Service)>,
    /// What to say to somebody who misses one.
    instead: String,
}

impl<'a> Services<'a> {
    fn of(services: &'a BTreeMap<String, Service>) -> Self {
        let named =
            services.iter().map(|(name, service)| (name.as_str(), (name.as_str().into(), service)));
        let named = named.collect();
        let known = services.keys().take(MAX_KNOWN);
        let known: Vec<_> = known.map(|name| shown_key(name)).collect();
        let more = if services.len() > MAX_KNOWN { ", …" } else { "" };
        let instead = match known.as_slice() {
            [] => String::new(),
            known => format!(", or use one that exists: {}{more}", known.join(", ")),
        };
        Self { named, instead }
    }
}

impl<'a> Checker<'a> {
    fn table(&mut self, raw: &raw::Table<'_>) -> Table {
        let raw::Table { services, apps } = raw;
        if apps.is_empty() {
            self.problem(
                &Place::Root,
                "the table has no apps",
                "add one, like [apps.shop]; to remove everything, use `vipnat flush`",
            );
        }
        let path = Place::Root.key("services");
        let services: BTreeMap<_, _> = services
            .iter()
            .map(|(name, service)| {
                let path = path.key(name);
                self.name(&path, name);
                (name.to_owned(), self.service(&path, service))
            })
            .collect();
        let known = Services::of(&services);
        let path = Place::Root.key("apps");
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

    fn app(&mut self, path: &Place<'_>, app: &raw::App<'_>, services: &Services<'_>) -> App {
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

    /// Gives the last of these its VIP. Another one may have the same, if both mean the same by it.
    fn hold(
        &mut self,
        path: &Place<'_>,
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
        // A service that is missing is a mistake of its own.
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

    fn cgroup(&mut self, path: &Place<'_>, text: &str) -> Option<Cgroups> {
        let mount = self.cgroup_mount;
        let below = if text.starts_with('/') {
            FilePath::new(text).strip_prefix(mount).ok()
        } else {
            Some(FilePath::new(text))
        };
        let Some(below) = below.filter(|below| !has_parent(below)) else {
            self.problem(
                path,
                format!(
                    "cgroup {} is not below the cgroup v2 mount {}",
                    quoted(text),
                    mount.display()
                ),
                "name a cgroup below it, such as \"shop.slice/shop\", without \"..\"",
            );
            return None;
        };
        if text.contains('\0') {
            self.problem(path, "a cgroup path with a zero byte", "remove it");
            return None;
        }
        let below: PathBuf = below.components().filter(|c| *c != Component::CurDir).collect();
        if below == PathBuf::new() || below == FilePath::new("*") {
            self.problem(
                path,
                format!("cgroup {} is the whole machine", quoted(text)),
                "name the cgroup of one container",
            );
            return None;
        }
        match Cgroups::parse(&below) {
            Ok(cgroups) => Some(cgroups),
            Err(reason) => {
                self.problem(
                    path,
                    format!("cgroup pattern {}: {reason}", quoted(text)),
                    "use * for any part of one name, as in \"lxc/shop-*\", ? for one character, \
                     [a-z] for one of some",
                );
                None
            }
        }
    }

    fn relationship(
        &mut self,
        path: &Place<'_>,
        name: &str,
        relationship: &raw::Relationship<'_>,
        services: &Services<'_>,
    ) -> Relationship {
        let raw::Relationship {
            service,
            vip,
            port,
            protocol,
            instance_ips,
            endpoint: Endpoint(endpoint),
        } = relationship;
        let known = services.named.get(&**service).map(|(name, _)| name.clone());
        let service = known.unwrap_or_else(|| {
            let define = if may_be_secret(service) || check_name(service).is_err() {
                "name a service of this table".to_owned()
            } else {
                format!("define [services.{}]", write::key(service))
            };
            self.problem(
                &path.key("service"),
                format!("there is no service {}", quoted(service)),
                define + &services.instead,
            );
            Arc::default()
        });
        let vip = match vip {
            None => vip_of(name),
            Some(vip) => self.vip(&path.key("vip"), name, vip).unwrap_or(Ipv4Addr::UNSPECIFIED),
        };
        let port = port.and_then(|port| self.port(&path.key("port"), port, EVERY_PORT));
        let protocol = protocol.as_deref().and_then(|p| self.protocol(&path.key("protocol"), p));
        let endpoint = endpoint.as_ref().unwrap_or(&self.no_endpoint).clone();
        for key in FILLED_IN {
            if endpoint.contains_key(key) {
                self.problem(
                    &path.key("endpoint").key(key),
                    format!("the endpoint sets {key:?}, which vipnat fills in"),
                    "leave it out; `vip` sets the address of a relationship",
                );
            }
        }
        let instance_ips = instance_ips.unwrap_or(true);
        Relationship { service, vip, port, protocol, instance_ips, endpoint }
    }

    fn vip(&mut self, path: &Place<'_>, name: &str, text: &str) -> Option<Ipv4Addr> {
        let vip = self.ipv4(path, text)?;
        let Some(reason) = never_the_vip_of(name, vip) else {
            return Some(vip);
        };
        self.problem(
            path,
            format!("VIP {vip} {reason}"),
            "use another address of 169.254.0.0/16, or leave `vip` out for the derived one",
        );
        None
    }

    fn protocol(&mut self, path: &Place<'_>, text: &str) -> Option<Protocol> {
        match text {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => {
                self.problem(
                    path,
                    format!("protocol {}", quoted(text)),
                    "use \"tcp\" or \"udp\"; leave `protocol` out for both",
                );
                None
            }
        }
    }
}

/// Why an address can't be the VIP of a relationship, if it can't. What a name gives is its VIP for
/// ever, even if another service has become known there since.
pub(super) fn never_the_vip_of(name: &str, ip: Ipv4Addr) -> Option<String> {
    never_a_vip(ip).filter(|_| ip != vip_of(name))
}

/// Why an address can't be a VIP, if it can't.
pub(crate) fn never_a_vip(ip: Ipv4Addr) -> Option<String> {
    if in_range(ip) {
        well_known(ip).map(|known| format!("belongs to {}", known.service))
    } else {
        Some("is outside 169.254.0.0/16".to_owned())
    }
}

fn has_parent(path: &FilePath) -> bool {
    path.components().any(|component| component == Component::ParentDir)
}

#[cfg(test)]
mod tests;
