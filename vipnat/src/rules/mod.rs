//! What a table means for an app, as rules for the network namespace of its container.
//!
//! [`iptables`] and [`nft`] are pure functions of a checked table. The rules do by NAT and
//! connection tracking what vipnat does in `connect`, so they are for the machines and protocols that
//! vipnat can't serve, and the measure that it is compared with. [`import`] reads rules.

mod import;
mod iptables;
mod nft;

use std::net::Ipv4Addr;

use vipnat_common::Protocol;

pub use self::{
    import::{Import, Remark, import},
    iptables::iptables,
    nft::nft,
};
use crate::table::{App, Relationship, Service, Table};

/// What the rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// What vipnat translates: they are used instead of it.
    TcpAndUdp,
    /// What it can't: they are used beside it. They leave TCP and UDP as they are, and out of
    /// connection tracking. A relationship that is limited to a port or protocol has none.
    AllOthers,
}

/// A relationship and the service behind it, as much of both as rules need.
struct Entry<'a> {
    name: &'a str,
    relationship: &'a Relationship,
    service: &'a Service,
}

impl<'a> Entry<'a> {
    /// Those of an app that rules are needed for.
    fn all(table: &'a Table, app: &'a App, protocols: Protocols) -> Vec<Self> {
        let App { cgroup: _, relationships } = app;
        relationships
            .iter()
            .map(|(name, relationship)| Self {
                name,
                relationship,
                service: &table.services[&*relationship.service],
            })
            .filter(|entry| match protocols {
                Protocols::TcpAndUdp => true,
                Protocols::AllOthers => !entry.is_limited(),
            })
            .collect()
    }

    fn vip(&self) -> Ipv4Addr {
        self.relationship.vip
    }

    fn is_limited(&self) -> bool {
        self.relationship.port.is_some() || self.relationship.protocol.is_some()
    }

    /// The protocols among TCP and UDP, by name.
    fn protocols(&self) -> &'static [&'static str] {
        match self.relationship.protocol {
            Some(Protocol::Tcp) => &["tcp"],
            Some(Protocol::Udp) => &["udp"],
            _ => &["tcp", "udp"],
        }
    }

    /// What the entry is called in comments: the names of its relationship and its service, at most
    /// 128 bytes, which is as much as nft takes.
    fn names(&self) -> String {
        format!("{}: {}", self.name, self.relationship.service)
    }
}
