//! The rules or the table of each mode: one backend for each VIP.

use std::{fmt::Write as _, net::Ipv4Addr};

use serde_json::{Map, Value, json};

use crate::vips::{vip, vips};

/// A rule for each VIP, as input of `iptables-restore`.
///
/// For VIPs with one backend each, `vipnat export iptables` prints these rules and one more chain.
pub(crate) fn iptables(count: u32, backend: Ipv4Addr) -> String {
    let mut text = "*nat\n".to_owned();
    for vip in vips(count) {
        let _ = writeln!(text, "-A OUTPUT -d {vip}/32 -j DNAT --to-destination {backend}");
    }
    text + "COMMIT\n"
}

/// A map, as input of `nft -f`.
pub(crate) fn nft_map(count: u32, backend: Ipv4Addr) -> String {
    let mut text =
        "table ip vipnat {\n  map vips { type ipv4_addr : ipv4_addr; elements = {\n".to_owned();
    for vip in vips(count) {
        let _ = writeln!(text, "    {vip} : {backend},");
    }
    text + "  } }\n  chain output { type nat hook output priority -100;\n    \
            dnat to ip daddr map @vips\n  }\n}\n"
}

/// Connection tracking, and nothing else.
pub(crate) const CONNTRACK: &str = "table ip tracking {
  chain output { type filter hook output priority 0; ct state new counter; }
  chain input { type filter hook input priority 0; ct state new counter; }
}
";

/// A relationship table of one app, in JSON.
pub(crate) struct Table {
    pub(crate) cgroup: String,
    /// Number of relationships.
    pub(crate) count: u32,
    /// The services that relationships use in turn; each is a list of backends.
    pub(crate) services: Vec<Value>,
    /// The service of the last relationship, in place of the next in turn.
    pub(crate) last: Option<usize>,
}

impl Table {
    /// One service with one backend.
    pub(crate) fn simple(cgroup: &str, count: u32, backend: Ipv4Addr) -> Self {
        Self { cgroup: cgroup.to_owned(), count, services: vec![json!([backend])], last: None }
    }

    pub(crate) fn json(&self) -> String {
        let Self { cgroup, count, services, last } = self;
        let relationship = |index: u32| {
            let turn = index as usize % services.len();
            let service = last.filter(|_| index + 1 == *count).unwrap_or(turn);
            let value = json!({ "service": format!("s{service}"), "vip": vip(index) });
            (format!("r{index}"), value)
        };
        let relationships: Map<_, _> = (0..*count).map(relationship).collect();
        let service = |(index, backends)| (format!("s{index}"), json!({ "backends": backends }));
        let services: Map<_, _> = services.iter().enumerate().map(service).collect();
        let app = json!({ "cgroup": cgroup, "relationships": relationships });
        json!({ "services": services, "apps": { "bench": app } }).to_string()
    }

    pub(crate) fn toml(&self) -> String {
        let Self { cgroup, count, services, last } = self;
        let mut text = String::new();
        for (index, backends) in services.iter().enumerate() {
            let _ = writeln!(text, "[services.s{index}]\nbackends = {backends}");
        }
        let _ = writeln!(text, "[apps.bench]\ncgroup = \"{cgroup}\"");
        for index in 0..*count {
            let turn = index as usize % services.len();
            let service = last.filter(|_| index + 1 == *count).unwrap_or(turn);
            let vip = vip(index);
            let _ = writeln!(
                text,
                "[apps.bench.relationships.r{index}]\nservice = \"s{service}\"\nvip = \"{vip}\""
            );
        }
        text
    }
}
