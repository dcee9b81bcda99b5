//! What the kernel does now, for people and machines.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use vipnat_common::{
    Protocol,
    layout::{Counters, Cursor},
};

use super::{
    apps, cgroup,
    error::Result,
    maps::Maps,
    rule::{Rule, Turn},
    state_dir::StateDir,
};
use crate::{
    record::{Names, Record},
    table::{Select, UdpPinning},
};

/// All apps of a state directory.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The apps, by name.
    pub apps: Vec<ListedApp>,
    /// What went wrong, summed over all CPUs.
    pub counters: Counters,
}

impl Listing {
    /// How many turns the VIPs gave, all together.
    pub fn redirected(&self) -> u64 {
        self.apps.iter().flat_map(|app| &app.vips).map(|vip| vip.connections).sum()
    }
}

/// One app.
#[derive(Clone, Debug)]
pub struct ListedApp {
    /// Its name.
    pub name: String,
    /// Its number in the maps.
    pub scope: u32,
    /// The cgroups it has links on.
    pub cgroups: Vec<ListedCgroup>,
    /// Its VIPs, by address.
    pub vips: Vec<ListedVip>,
}

/// One cgroup of an app.
#[derive(Clone, Debug)]
pub struct ListedCgroup {
    /// Its path below the mount; `None` if it is gone.
    pub path: Option<PathBuf>,
    /// Whether every hook is attached and switched on.
    pub translating: bool,
    /// Whether `vipnat attach` attached it.
    pub by_hand: bool,
}

/// One VIP of an app.
#[derive(Clone, Debug)]
pub struct ListedVip {
    /// What people call it, if that is known.
    pub names: Option<Names>,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The only port translated, or 0 for all.
    pub port: u16,
    /// The only protocol translated, or number 0 for all.
    pub protocol: Protocol,
    /// Connections sent to a backend since the VIP came, which is how often its cursor moved.
    pub connections: u64,
    /// The backends in the order of their first turns, with their turns in a round.
    pub backends: Vec<(Turn, usize)>,
    /// Who is next.
    pub select: Select,
    /// What becomes of UDP flows whose backend leaves the table.
    pub udp_pinning: UdpPinning,
}

pub(super) fn read(
    dir: &StateDir,
    maps: &Maps,
    cgroup_mount: &Path,
    record: &Record,
) -> Result<Listing> {
    let now = maps.snapshot()?;
    let cursors = maps.all_cursors()?;
    let rules = now.rules();
    let paths = cgroup::paths_by_id(cgroup_mount)?;
    let mut listed = Vec::new();
    for app in apps::read(dir)? {
        let active = app.active(maps.cgroups())?;
        let by_hand: Vec<_> = app.by_hand().collect();
        let mut cgroups: Vec<_> = app
            .cgroups()
            .map(|id| ListedCgroup {
                path: paths.get(&id).cloned(),
                translating: active.contains(&id),
                by_hand: by_hand.contains(&id),
            })
            .collect();
        cgroups.sort_by(|a, b| a.path.cmp(&b.path));
        let mut vips = Vec::new();
        for rule in rules.values().filter(|rule| rule.scope == app.scope) {
            let Rule { scope, vip, port, protocol, turns: _, select, udp_pinning } = rule;
            let cursor = now.cursor_of(*scope, *vip).and_then(|index| cursors.get(index as usize));
            let connections = cursor.map_or(0, Cursor::total);
            vips.push(ListedVip {
                names: record.names(&app.name, *vip),
                vip: *vip,
                port: *port,
                protocol: *protocol,
                connections,
                backends: rule.backends(),
                select: *select,
                udp_pinning: *udp_pinning,
            });
        }
        listed.push(ListedApp { name: app.name.clone(), scope: app.scope, cgroups, vips });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Listing { apps: listed, counters: maps.counters()? })
}
