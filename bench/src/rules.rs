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

/// A relationship table.
pub(crate) struct Table {
    /// The cgroups of the apps `a0`, `a1`, …
    pub(crate) cgroups: Vec<String>,
    /// Number of relationships of each app. All apps have the same VIPs.
    pub(crate) each: u32,
    /// The services that relationships use in turn; each is a list of backends.
    pub(crate) services: Vec<Value>,
    /// The service of the last relationship of the last app, in place of the next in turn.
    pub(crate) last: Option<usize>,
}

impl Table {
    /// One service with one backend, used by one app.
    pub(crate) fn simple(cgroup: &str, count: u32, backend: Ipv4Addr) -> Self {
        let cgroups = vec![cgroup.to_owned()];
        Self { cgroups, each: count, services: vec![json!([backend])], last: None }
    }

    pub(crate) fn json(&self) -> String {
        let Self { cgroups, each, services, last: _ } = self;
        let service = |(index, backends)| (format!("s{index}"), json!({ "backends": backends }));
        let services: Map<_, _> = services.iter().enumerate().map(service).collect();
        let app = |(app, cgroup)| {
            let relationship = |index| {
                let service = format!("s{}", self.service(app, index));
                (format!("r{index}"), json!({ "service": service, "vip": vip(index) }))
            };
            let relationships: Map<_, _> = (0..*each).map(relationship).collect();
            (format!("a{app}"), json!({ "cgroup": cgroup, "relationships": relationships }))
        };
        let apps: Map<_, _> = cgroups.iter().enumerate().map(app).collect();
        json!({ "services": services, "apps": apps }).to_string()
    }

    pub(crate) fn toml(&self) -> String {
        let Self { cgroups, each, services, last: _ } = self;
        let mut text = String::new();
        for (index, backends) in services.iter().enumerate() {
            let _ = writeln!(text, "[services.s{index}]\nbackends = {backends}");
        }
        for (app, cgroup) in cgroups.iter().enumerate() {
            let _ = writeln!(text, "[apps.a{app}]\ncgroup = \"{cgroup}\"");
            for index in 0..*each {
                let (service, vip) = (self.service(app, index), vip(index));
                let _ = writeln!(
                    text,
                    "[apps.a{app}.relationships.r{index}]\nservice = \"s{service}\"\nvip = \"{vip}\""
                );
            }
        }
        text
    }

    /// The number of the service of a relationship.
    fn service(&self, app: usize, index: u32) -> usize {
        let is_last = app + 1 == self.cgroups.len() && index + 1 == self.each;
        let turn = app * self.each as usize + index as usize;
        self.last.filter(|_| is_last).unwrap_or(turn % self.services.len())
    }
}
