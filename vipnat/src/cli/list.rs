//! `vipnat list`.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use vipnat_common::{
    Protocol,
    layout::{ANY_PORT, ANY_PROTOCOL, Counters},
};

use crate::{
    datapath::{ListedApp, ListedCgroup, ListedVip, Listing, Turn},
    table::{Select, UdpPinning},
};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, bpffs: &Path) -> Result<()> {
    let listing = super::datapath(bpffs)?.list()?;
    super::print(&if args.json {
        format!("{:#}\n", as_json(&listing))
    } else if listing.apps.is_empty() {
        "no apps; apply a table: vipnat apply TABLE\n".to_owned()
    } else {
        as_text(&listing)
    })
}

/// How backends are written: each with its port, if it has its own, and its turns, if more than one.
pub(super) fn backend_list(backends: &[(Turn, usize)], none: &str, between: &str) -> String {
    if backends.is_empty() {
        return none.to_owned();
    }
    let backend = |(Turn { ip, port }, turns): &(Turn, usize)| {
        let port = if *port == 0 { String::new() } else { format!(":{port}") };
        let turns = if *turns == 1 { String::new() } else { format!(" ×{turns}") };
        format!("{ip}{port}{turns}")
    };
    backends.iter().map(backend).collect::<Vec<_>>().join(between)
}

/// What follows backends that are not chosen in turns, or that UDP flows are tied to.
pub(super) fn choices(select: Select, udp_pinning: UdpPinning) -> String {
    let random = match select {
        Select::RoundRobin => "",
        Select::Random => " (random)",
    };
    let strict = match udp_pinning {
        UdpPinning::Table => "",
        UdpPinning::Strict => " (udp strict)",
    };
    format!("{random}{strict}")
}

/// What follows a VIP that is limited: `:6379/tcp`.
pub(super) fn limit(port: u16, protocol: Protocol) -> String {
    let port = if port == ANY_PORT { String::new() } else { format!(":{port}") };
    format!("{port}{}", protocol_name(protocol).map_or(String::new(), |name| format!("/{name}")))
}

fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp => Some("tcp"),
        Protocol::Udp => Some("udp"),
        _ => None,
    }
}

/// `cgroup shop.slice/shop`, `cgroups lxc/shop-1, lxc/shop-2`, `no cgroup yet`.
fn cgroup_list(cgroups: &[ListedCgroup]) -> String {
    let one = |cgroup: &ListedCgroup| {
        let ListedCgroup { path, translating, by_hand } = cgroup;
        let path = path.as_ref().map_or("gone".to_owned(), |path| path.display().to_string());
        let by_hand = if *by_hand { " (by hand)" } else { "" };
        let off = if *translating || path == "gone" {
            ""
        } else {
            " NOT TRANSLATED: apply the table again"
        };
        format!("{path}{by_hand}{off}")
    };
    match cgroups {
        [] => "no cgroup yet".to_owned(),
        [cgroup] => format!("cgroup {}", one(cgroup)),
        several => {
            format!("cgroups {}", several.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

fn as_text(listing: &Listing) -> String {
    let mut rows =
        vec![["RELATIONSHIP", "VIP", "SERVICE", "CONNECTIONS", "BACKENDS"].map(str::to_owned)];
    let mut heads = Vec::new();
    for app in &listing.apps {
        let ListedApp { name, scope, cgroups, vips } = app;
        heads.push((rows.len(), format!("{name} ({}, scope {scope})", cgroup_list(cgroups))));
        for vip in vips {
            let names = vip.names.as_ref();
            rows.push([
                names.map_or("?".to_owned(), |names| names.relationship.clone()),
                format!("{}{}", vip.vip, limit(vip.port, vip.protocol)),
                names.map_or("?".to_owned(), |names| names.service.clone()),
                vip.connections.to_string(),
                backend_list(&vip.backends, "none", "  ") + &choices(vip.select, vip.udp_pinning),
            ]);
        }
    }
    let widths: Vec<usize> = (0..4)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (_, head) in heads.iter().filter(|(at, _)| *at == i) {
            text += &format!("{head}\n");
        }
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        let cells: String = cells.collect();
        text += &format!("  {cells}{}\n", row[4]);
    }
    // An app without relationships, at the end.
    for (_, head) in heads.iter().filter(|(at, _)| *at == rows.len()) {
        text += &format!("{head}\n");
    }
    let Counters { unreachable, unsettled, unrecorded, evicted } = listing.counters;
    let redirected = listing.redirected();
    text += &format!(
        "flows: {redirected} redirected by these VIPs, {unreachable} without a backend, {unsettled} refused \
         during a change, {unrecorded} without a record in the socket, {evicted} ended early\n"
    );
    text
}

fn as_json(listing: &Listing) -> serde_json::Value {
    let apps = listing.apps.iter().map(|app| {
        let ListedApp { name, scope, cgroups, vips } = app;
        let cgroups = cgroups.iter().map(|cgroup| {
            let ListedCgroup { path, translating, by_hand } = cgroup;
            json!({ "cgroup": path, "translating": translating, "by-hand": by_hand })
        });
        let vips = vips.iter().map(|listed| {
            let ListedVip {
                names,
                vip,
                port,
                protocol,
                connections,
                backends,
                select,
                udp_pinning,
            } = listed;
            let names = names.as_ref();
            let backends = backends.iter().map(|(Turn { ip, port }, turns)| {
                json!({ "ip": ip, "port": (*port != 0).then_some(port), "turns": turns })
            });
            json!({
                "relationship": names.map(|names| &names.relationship),
                "service": names.map(|names| &names.service),
                "vip": vip,
                "port": (*port != ANY_PORT).then_some(port),
                "protocol": (*protocol != ANY_PROTOCOL).then(|| protocol_name(*protocol)).flatten(),
                "connections": connections,
                "backends": backends.collect::<Vec<_>>(),
                "select": select.word(),
                "udp-pinning": udp_pinning.word(),
                "on-backend-removed": names.map(|names| names.on_backend_removed.word()),
                "drain-seconds": names.and_then(|names| names.on_backend_removed.drain_seconds()),
            })
        });
        json!({
            "app": name,
            "scope": scope,
            "cgroups": cgroups.collect::<Vec<_>>(),
            "relationships": vips.collect::<Vec<_>>(),
        })
    });
    let Counters { unreachable, unsettled, unrecorded, evicted } = listing.counters;
    let redirected = listing.redirected();
    json!({
        "apps": apps.collect::<Vec<_>>(),
        "redirected": redirected,
        "counters": {
            "unreachable": unreachable,
            "unsettled": unsettled,
            "unrecorded": unrecorded,
            "evicted": evicted,
        },
    })
}
