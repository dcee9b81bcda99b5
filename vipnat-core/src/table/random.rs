//! Random tables for tests. They have few names and VIPs, so that two of them meet in all ways.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
    num::NonZeroU16,
    path::Path,
    sync::Arc,
};

use proptest::prelude::*;
use vipnat_common::Protocol;

use super::model::{
    App, Backend, ByName, Cgroups, OnBackendRemoved, Relationship, Select, Service, Table,
    UdpPinning, difference,
};

/// One of a few services.
pub(crate) fn service() -> impl Strategy<Value = Service> {
    (0..3_u8, 0..3_usize).prop_map(|(last, policy)| {
        let ip = Ipv4Addr::new(240, 0, 0, last);
        Service {
            backends: (0..last).map(|_| Backend { ip, port: None, weight: 1 }).take(1).collect(),
            select: Select::default(),
            udp_pinning: UdpPinning::default(),
            on_backend_removed: OnBackendRemoved::ALL[policy],
        }
    })
}

/// Some services, by name.
pub(crate) fn services() -> impl Strategy<Value = BTreeMap<String, Service>> {
    prop::collection::btree_map("s[0-4]", service(), 0..5)
}

/// An app that may not fit any table: it may miss services, and its relationships may contradict each other.
pub(crate) fn app() -> impl Strategy<Value = App> {
    let limit = prop_oneof![4 => Just(None), 1 => Just(NonZeroU16::new(80))];
    let relationship = ("r[0-5]", "s[0-4]", 0..6_u8, limit, any::<bool>());
    (prop::option::of("c[0-3]"), prop::collection::vec(relationship, 0..8)).prop_map(
        |(cgroup, mut all)| {
            let cgroup = cgroup.map(|path| Cgroups::parse(Path::new(&path)).unwrap());
            all.sort_by(|one, other| one.0.cmp(&other.0));
            let mut relationships = ByName::default();
            for (name, service, last, port, instance_ips) in all {
                let relationship = Relationship {
                    service: service.into(),
                    vip: Ipv4Addr::new(169, 254, 1, last),
                    port,
                    protocol: port.map(|_| Protocol::Tcp),
                    instance_ips,
                    endpoint: Arc::default(),
                };
                relationships.push(&name, relationship);
            }
            App { cgroup, relationships }
        },
    )
}

/// A table without mistakes.
pub(crate) fn table() -> impl Strategy<Value = Table> {
    let apps = prop::collection::btree_map("a[0-3]", app(), 1..4);
    (services(), apps).prop_map(|(services, mut apps)| {
        let mut cgroups = HashSet::new();
        for app in apps.values_mut() {
            app.cgroup = app.cgroup.take().filter(|cgroup| cgroups.insert(cgroup.clone()));
            let mut kept: ByName<Relationship> = ByName::default();
            for (name, relationship) in app.relationships.iter() {
                let Some(service) = services.get(&*relationship.service) else {
                    continue;
                };
                let fits = |other: &Relationship| {
                    let other = (other, &services[&*other.service]);
                    other.0.vip != relationship.vip
                        || difference((relationship, service), other).is_none()
                };
                if kept.values().all(fits) {
                    kept.push(name, relationship.clone());
                }
            }
            app.relationships = kept;
        }
        Table { services, apps }
    })
}
