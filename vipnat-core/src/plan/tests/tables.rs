//! Tables, destinations, and the answers that a table allows.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use vipnat_common::{AppId, Destination, Protocol, Target, Verdict};

use crate::{
    model::{Backend, Mapping},
    table::{Select, UdpPinning},
};

const APPS: [u32; 2] = [1, 2];
pub(super) const VIPS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(169, 254, 1, 2)];
const PORTS: [u16; 2] = [53, 80];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

pub(super) fn mapping(
    app: u32,
    vip: Ipv4Addr,
    port: u16,
    protocol: Protocol,
    backends: &[u8],
) -> Mapping {
    let turn =
        |last: &u8| Backend { ip: Ipv4Addr::new(240, app as u8, vip.octets()[3], *last), port: 0 };
    Mapping {
        app_id: AppId(app),
        vip,
        port,
        protocol,
        turns: backends.iter().map(turn).collect(),
        select: Select::RoundRobin,
        udp_pinning: UdpPinning::Table,
    }
}

/// Tables of two apps, limited or not. Both apps have the same VIPs, up to two.
pub(super) fn tables() -> impl Strategy<Value = Vec<Mapping>> {
    let one = proptest::option::of((
        prop_oneof![Just(0), Just(PORTS[0])],
        prop_oneof![Just(Protocol::Any), Just(PROTOCOLS[0])],
        proptest::collection::vec(0..5u8, 0..4),
    ));
    proptest::array::uniform4(one).prop_map(|mappings| {
        let places = APPS.iter().flat_map(|app| VIPS.iter().map(move |vip| (*app, *vip)));
        let mappings = places.zip(mappings).filter_map(|((app, vip), choice)| {
            choice.map(|(port, protocol, backends)| mapping(app, vip, port, protocol, &backends))
        });
        mappings.collect()
    })
}

pub(super) fn destinations() -> Vec<Destination> {
    let mut all = Vec::new();
    for app in APPS {
        for vip in VIPS {
            for port in PORTS {
                for protocol in PROTOCOLS {
                    all.push(Destination {
                        app: AppId(app),
                        ip: vip.octets(),
                        port,
                        protocol,
                        connect: true,
                    });
                }
            }
        }
    }
    all
}

/// A verdict without its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Pass,
    Unreachable,
    Retry,
    Redirect([u8; 4], u16),
}

impl From<Verdict> for Seen {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Unreachable => Self::Unreachable,
            Verdict::Retry => Self::Retry,
            Verdict::Redirect(Target { ip, port, .. }) => Self::Redirect(ip, port),
        }
    }
}

/// The answers that a table allows for a destination.
pub(super) fn allowed(table: &[Mapping], to: &Destination) -> Vec<Seen> {
    let matches = |rule: &&Mapping| {
        rule.app_id == to.app
            && rule.vip.octets() == to.ip
            && [0, to.port].contains(&rule.port)
            && [Protocol::Any, to.protocol].contains(&rule.protocol)
    };
    match table.iter().find(matches) {
        None => vec![Seen::Pass],
        Some(rule) if rule.turns.is_empty() => vec![Seen::Unreachable],
        Some(rule) => {
            rule.turns.iter().map(|turn| Seen::Redirect(turn.ip.octets(), to.port)).collect()
        }
    }
}
