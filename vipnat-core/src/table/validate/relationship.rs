//! Checks one endpoint of a relationship.

use std::{collections::BTreeMap, net::Ipv4Addr};

use rustc_hash::FxHashMap;
use vipnat_common::Protocol;

use super::checker::Checker;
use crate::{
    table::{
        key_path::KeyPathRef,
        model::{ByName, Relationship, Service, check_name, difference, never_the_vip_of, vip_of},
        parse::{endpoint::Endpoint, raw},
        write,
    },
    text::{may_be_secret, quoted, shown_key},
};

/// The effect of leaving `port` out, for messages.
const EVERY_PORT: &str = "to translate every port";

/// The largest number of services that a message lists if one is missing.
const MAX_KNOWN: usize = 10;

/// Keys of endpoints that vipnat fills in.
const FILLED_IN: [&str; 2] = ["ip", "instance_ips"];

/// The services of the table, for the relationships that name them.
pub(super) struct Services<'a> {
    all: &'a BTreeMap<String, Service>,
    named: FxHashMap<&'a str, &'a Service>,
}

impl<'a> Services<'a> {
    pub(super) fn of(all: &'a BTreeMap<String, Service>) -> Self {
        Self { all, named: all.iter().map(|(name, service)| (name.as_str(), service)).collect() }
    }

    fn get(&self, name: &str) -> Option<&'a Service> {
        self.named.get(name).copied()
    }

    /// The end of the message about a missing service.
    fn instead(&self) -> String {
        let known = self.all.keys().take(MAX_KNOWN);
        let known: Vec<_> = known.map(|name| shown_key(name)).collect();
        let more = if self.all.len() > MAX_KNOWN { ", …" } else { "" };
        match known.as_slice() {
            [] => String::new(),
            known => format!(", or use one that exists: {}{more}", known.join(", ")),
        }
    }
}

impl Checker<'_> {
    /// Checks an endpoint by itself; [`Self::links`] checks its service.
    pub(super) fn relationship(
        &mut self,
        path: &KeyPathRef<'_>,
        name: &str,
        relationship: &raw::Relationship<'_>,
    ) -> Relationship {
        let raw::Relationship {
            service,
            vip,
            port,
            protocol,
            instance_ips,
            endpoint: Endpoint(endpoint),
        } = relationship;
        let service = self.service_name(service);
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

    /// Checks that the services of an app's relationships exist, and that relationships that share a VIP
    /// agree. `lists_of_one` has the numbers of relationships that are written as a list of one, in order.
    pub(super) fn links(
        &mut self,
        path: &KeyPathRef<'_>,
        relationships: &ByName<Relationship>,
        lists_of_one: &[usize],
        services: &Services<'_>,
    ) {
        let mut number = 0;
        for (name, group) in relationships.groups() {
            let path = path.key(name);
            let list = group.len() > 1 || lists_of_one.binary_search(&number).is_ok();
            for place in 0..group.len() {
                let path = if list { path.index(place) } else { path };
                self.link(&path, relationships, number, services);
                number += 1;
            }
        }
        self.holders.next_app(relationships.len());
    }

    fn link(
        &mut self,
        path: &KeyPathRef<'_>,
        relationships: &ByName<Relationship>,
        number: usize,
        services: &Services<'_>,
    ) {
        let one = relationships.nth(number);
        let service = services.get(&one.service);
        if service.is_none() {
            let name = &*one.service;
            let define = if may_be_secret(name) || check_name(name).is_err() {
                "name a service of this table".to_owned()
            } else {
                format!("define [services.{}]", write::key(name))
            };
            self.problem(
                &path.key("service"),
                format!("there is no service {}", quoted(name)),
                define + &services.instead(),
            );
        }
        let Some(other_number) = self.holders.give(one.vip, number) else {
            return;
        };
        let other = relationships.nth(other_number);
        // A missing service was reported already.
        let (Some(service), Some(others)) = (service, services.get(&other.service)) else {
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

    fn vip(&mut self, path: &KeyPathRef<'_>, name: &str, text: &str) -> Option<Ipv4Addr> {
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

    fn protocol(&mut self, path: &KeyPathRef<'_>, text: &str) -> Option<Protocol> {
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
