//! What a table means for an app, as rules for the network namespace of its container.
//!
//! [`iptables`] and [`nft`] are pure functions of a checked table. The rules do by NAT and
//! connection tracking what vipnat does in `connect`, so they are for the machines and protocols that
//! vipnat can't serve, and the measure that it is compared with. [`import`] reads rules.

mod beside;
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

/// The packets that rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packets {
    /// TCP and UDP, which vipnat translates: the rules are used instead of it.
    TcpAndUdp,
    /// Those that no hook of vipnat reached, whatever their protocol: the rules are used beside it. All
    /// others stay as they are, and out of connection tracking.
    Unreached,
}

/// A relationship and the service behind it, as much of both as rules need.
struct Entry<'a> {
    name: &'a str,
    relationship: &'a Relationship,
    service: &'a Service,
}

impl<'a> Entry<'a> {
    /// Those of an app.
    fn all(table: &'a Table, app: &'a App) -> Vec<Self> {
        let App { cgroup: _, relationships } = app;
        relationships
            .iter()
            .map(|(name, relationship)| Self {
                name,
                relationship,
                service: &table.services[&*relationship.service],
            })
            .collect()
    }

    fn vip(&self) -> Ipv4Addr {
        self.relationship.vip
    }

    /// Whether rules for `packets` translate every protocol that there is.
    fn is_for_all_protocols(&self, packets: Packets) -> bool {
        let Relationship { port, protocol, .. } = self.relationship;
        packets == Packets::Unreached && port.is_none() && protocol.is_none()
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
