//! Checks one endpoint of a relationship.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use vipnat_common::Protocol;

use super::checker::Checker;
use crate::{
    table::{
        key_path::KeyPathRef,
        model::{Relationship, Service, check_name, never_the_vip_of, vip_of},
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
    /// Each service with its name, which relationships share.
    pub(super) named: HashMap<&'a str, (Arc<str>, &'a Service)>,
    /// The end of the message about a missing service.
    instead: String,
}

impl<'a> Services<'a> {
    pub(super) fn of(services: &'a BTreeMap<String, Service>) -> Self {
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

impl Checker<'_> {
    pub(super) fn relationship(
        &mut self,
        path: &KeyPathRef<'_>,
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
