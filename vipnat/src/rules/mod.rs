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
    /// others stay as they are, and TCP and UDP on the way out of the container untracked.
    Unreached,
}

/// The longest comment that nft takes.
const MAX_COMMENT: usize = 128;

/// A relationship and the service behind it, as much of both as rules need.
struct Entry<'a> {
    name: &'a str,
    /// The names of others that have the same VIP, each with its service.
    also: Vec<(&'a str, &'a str)>,
    relationship: &'a Relationship,
    service: &'a Service,
}

impl<'a> Entry<'a> {
    /// Those of an app, one for each VIP.
    fn all(table: &'a Table, app: &'a App) -> Vec<Self> {
        let shared = app.shared();
        app.mappings()
            .map(|(name, relationship)| {
                let all = shared.get(&relationship.vip).into_iter().flatten();
                let mut also: Vec<_> = all.map(|(name, of)| (*name, &*of.service)).collect();
                also.dedup();
                also.retain(|pair| *pair != (name, &*relationship.service));
                let service = &table.services[&*relationship.service];
                Self { name, also, relationship, service }
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

    /// What the entry is called in comments: the names of its relationship and its service, and of
    /// others that have the VIP, as many as there is room for.
    fn names(&self) -> String {
        let mut names = format!("{}: {}", self.name, self.relationship.service);
        for (name, service) in &self.also {
            let more = format!(" {name}: {service}");
            if names.len() + more.len() <= MAX_COMMENT {
                names += &more;
            }
        }
        names
    }
}
