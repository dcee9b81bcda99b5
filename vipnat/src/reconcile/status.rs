//! Lists the apps, VIPs and counters in the kernel.

use std::{net::Ipv4Addr, path::Path};

use vipnat_common::{
    AppId, Protocol,
    abi::{Counters, Cursor},
};
use vipnat_core::{
    model::{Backend, ByApp, Capacity, Mapping, NameIndex, Names, Place, Snapshot},
    table::{Select, UdpPinning},
};

use super::{
    context::Context,
    state_copy::{AppState, StateCopy, copy_state},
};
use crate::{
    kernel::{
        cgroup::Paths,
        error::Result,
        maps::{Copied, Maps},
    },
    state::name_index,
};

/// See [`Session::list`](super::Session::list).
pub(crate) fn list(context: &Context) -> Result<Listing> {
    match copy_state(context, |maps| Source::copy(maps, &context.dir))? {
        None => Ok(Listing::empty()),
        Some(state) => {
            let tree = context.tree();
            let paths = tree.map_or_else(|error| Paths::unseen(&error), |tree| Paths::of(&tree));
            Listing::new(state, &paths)
        }
    }
}

/// All apps of a state directory. There may be very many VIPs, so [`Listing::vips`] makes each one from a
/// copy of the maps when the caller asks for it.
#[derive(Debug)]
pub struct Listing {
    /// The apps, by name.
    pub apps: Vec<ListedApp>,
    /// The counters of refusals and losses, summed over all CPUs.
    pub counters: Counters,
    /// The reason why some cgroups are not in view.
    pub unseen: Option<String>,
    now: Snapshot,
    by_app: ByApp,
    cursors: Vec<Cursor>,
    names: NameIndex,
}

/// One app.
#[derive(Clone, Debug)]
pub struct ListedApp {
    /// Its name.
    pub name: String,
    /// Its app id in the maps.
    pub app_id: AppId,
    /// The cgroups on which it has links.
    pub cgroups: Vec<ListedCgroup>,
}

/// One cgroup of an app.
#[derive(Clone, Debug)]
pub struct ListedCgroup {
    /// Its id.
    pub id: u64,
    /// Its path below the mount.
    pub place: Place,
    /// Whether every hook is attached and switched on.
    pub translating: bool,
    /// Whether `vipnat attach` attached it.
    pub by_hand: bool,
}

/// One VIP of an app.
#[derive(Clone, Debug)]
pub struct ListedVip {
    /// Its names in the table, if they are known.
    pub names: Option<Names>,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The only port translated, or 0 for all.
    pub port: u16,
    /// The only protocol translated, or number 0 for all.
    pub protocol: Protocol,
    /// The number of connections sent to a backend since the VIP was added: the turns of its cursor.
    pub connections: u64,
    /// The backends in the order of their first turns, with their turns in a round.
    pub backends: Vec<(Backend, usize)>,
    /// How the hooks select the next backend.
    pub select: Select,
    /// The treatment of UDP flows whose backend leaves the table.
    pub udp_pinning: UdpPinning,
}

/// The part of the maps that a listing needs, and the names that belong to it.
struct Source {
    maps: Copied,
    cursors: Vec<Cursor>,
    counters: Counters,
    names: NameIndex,
}

impl Source {
    /// Copies the maps and names, and does no more, since the state is locked meanwhile.
    fn copy(maps: &Maps, state: &Path) -> Result<Self> {
        Ok(Self {
            maps: maps.copy()?,
            cursors: maps.all_cursors()?,
            counters: maps.counters()?,
            names: name_index::load(state),
        })
    }
}

impl Listing {
    /// The listing of a state directory without applied state.
    fn empty() -> Self {
        let nothing = Capacity { vips: 0, backends: 0, cursors: 0 };
        Self {
            apps: Vec::new(),
            counters: Counters::default(),
            unseen: None,
            now: Snapshot::fresh(nothing),
            by_app: ByApp::default(),
            cursors: Vec::new(),
            names: NameIndex::default(),
        }
    }

    fn new(state: StateCopy<Source>, paths: &Paths) -> Result<Self> {
        let StateCopy { copied, apps, maps: _ } = state;
        let Source { maps, cursors, counters, names } = copied;
        let app = |AppState { app, active }: AppState| {
            let by_hand: Vec<_> = app.by_hand().collect();
            let cgroup = |id| ListedCgroup {
                id,
                place: paths.place(id),
                translating: active.contains(&id),
                // `by_hand` is sorted.
                by_hand: by_hand.binary_search(&id).is_ok(),
            };
            let mut cgroups: Vec<_> = app.cgroups().map(cgroup).collect();
            cgroups.sort_by(|a, b| a.place.cmp(&b.place));
            ListedApp { name: app.name, app_id: app.app_id, cgroups }
        };
        let mut apps: Vec<_> = apps.into_iter().map(app).collect();
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        let now = maps.snapshot()?;
        let unseen = paths.reason().map(ToString::to_string);
        Ok(Self { apps, counters, unseen, by_app: ByApp::new(&now), now, cursors, names })
    }

    /// The VIPs of one of the apps, by address.
    pub fn vips<'a>(&'a self, app: &'a ListedApp) -> impl Iterator<Item = ListedVip> + 'a {
        self.by_app.mappings_of(app.app_id, &self.now).map(|mapping| {
            let connections = self.connections(&mapping);
            let backends = mapping.backends();
            let Mapping { app_id: _, vip, port, protocol, turns: _, select, udp_pinning } = mapping;
            ListedVip {
                names: self.names.names(&app.name, vip),
                vip,
                port,
                protocol,
                connections,
                backends,
                select,
                udp_pinning,
            }
        })
    }

    /// The number of turns that all VIPs have given.
    pub fn redirected(&self) -> u64 {
        let mappings =
            self.apps.iter().flat_map(|app| self.by_app.mappings_of(app.app_id, &self.now));
        mappings.map(|mapping| self.connections(&mapping)).sum()
    }

    fn connections(&self, mapping: &Mapping) -> u64 {
        let cursor = self.now.cursor_of(mapping.app_id, mapping.vip);
        let cursor = cursor.and_then(|index| self.cursors.get(index as usize));
        cursor.map_or(0, Cursor::total)
    }
}
