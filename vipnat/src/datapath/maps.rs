//! The pinned maps, read and written in the types of `vipnat-common`.

use std::{net::Ipv4Addr, path::Path};

use aya::maps::{Map, MapData, PerCpuArray};
use aya_obj::generated::bpf_map_type::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED, BPF_MAP_TYPE_HASH,
};
use vipnat_common::{
    Range, Slot, VipKey,
    layout::{Counters, Cursor, Layout, Scope, capacity},
};

use super::{
    error::{Attempt as _, Error, Result},
    object,
    snapshot::Snapshot,
    sys::ByteMap,
};

/// The map `scope` of one state directory, which is the same in every layout.
pub(super) struct Switch {
    scope: ByteMap<8, 8>,
}

impl Switch {
    /// Opens it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let pin = object::map_pin(path, "scope");
        let scope = ByteMap::open(&pin, BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED);
        Ok(Self { scope: scope.attempt(|| format!("open {}", pin.display()))? })
    }

    /// The app that a cgroup belongs to in the kernel's eyes: 0 if translation is off, `None` if no
    /// program was ever attached to it.
    pub(super) fn scope(&self, cgroup: u64) -> Result<Option<u32>> {
        let value = self.scope.lookup(cgroup.to_ne_bytes());
        let value = value.attempt(|| format!("read the scope of cgroup {cgroup}"))?;
        Ok(value.map(|bytes| Scope::from_bytes(bytes).id))
    }

    /// The switch: from now on the cgroup's sockets see this app's VIPs; with 0, none. Returns
    /// `false` if no program was ever attached to the cgroup, and so there is nothing to switch.
    pub(super) fn set(&self, cgroup: u64, id: u32) -> Result<bool> {
        let value = Scope { id, reserved: 0 }.to_bytes();
        self.scope
            .update(cgroup.to_ne_bytes(), value)
            .attempt(|| format!("write the scope of cgroup {cgroup}"))
    }
}

/// The maps of one state directory.
pub(super) struct Maps {
    vips: ByteMap<12, 8>,
    backends: ByteMap<4, 24>,
    cursors: ByteMap<4, 16>,
    switch: Switch,
    layout: ByteMap<4, 12>,
    counters: PerCpuArray<MapData, [u64; 4]>,
}

impl Maps {
    /// Opens the maps of a state directory, if they are of the right kinds and sizes.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let pin = |name: &str| object::map_pin(path, name);
        let open = |name: &str| format!("open {}", pin(name).display());
        let counters = MapData::from_pin(pin("counters")).and_then(Map::from_map_data);
        Ok(Self {
            vips: ByteMap::open(&pin("vips"), BPF_MAP_TYPE_HASH).attempt(|| open("vips"))?,
            backends: ByteMap::open(&pin("backends"), BPF_MAP_TYPE_ARRAY)
                .attempt(|| open("backends"))?,
            cursors: ByteMap::open(&pin("cursors"), BPF_MAP_TYPE_ARRAY)
                .attempt(|| open("cursors"))?,
            switch: Switch::open(path)?,
            layout: object::layout_map(path)?,
            counters: counters.and_then(PerCpuArray::try_from).attempt(|| open("counters"))?,
        })
    }

    /// The switch of each cgroup.
    pub(super) fn cgroups(&self) -> &Switch {
        &self.switch
    }

    /// Reads entries and slots back.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let mut foreign = None;
        self.vips
            .for_each(|key, range| {
                let range = Range::from_bytes(range);
                let end = range.first.checked_add(range.count);
                match VipKey::from_bytes(key) {
                    Some(key) if end.is_some_and(|end| end <= capacity::BACKENDS) => {
                        snapshot.entries.insert(key, range);
                    }
                    _ => foreign = Some("vips"),
                }
            })
            .attempt(|| "read the map vips".to_owned())?;
        self.backends
            .for_each_mapped(|index, slot| {
                if *slot != Slot::FREE {
                    match Slot::from_bytes(*slot) {
                        Some(slot) => drop(snapshot.slots.insert(index, slot)),
                        None => foreign = Some("backends"),
                    }
                }
            })
            .attempt(|| "read the map backends".to_owned())?;
        match foreign {
            None => Ok(snapshot),
            Some(map) => Err(Error::Unsupported(format!(
                "the map {map} holds what vipnat never writes; run `vipnat flush` and apply again"
            ))),
        }
    }

    /// Writes a slot, which no range may point to.
    pub(super) fn write_slot(&self, index: u32, slot: Slot) -> Result<()> {
        self.backends
            .update(index.to_ne_bytes(), slot.to_bytes())
            .map(drop)
            .attempt(|| format!("write slot {index} of the map backends"))
    }

    /// Frees a slot, which no range may have pointed to for a grace period.
    pub(super) fn free_slot(&self, index: u32) -> Result<()> {
        self.backends
            .update(index.to_ne_bytes(), Slot::FREE)
            .map(drop)
            .attempt(|| format!("free slot {index} of the map backends"))
    }

    /// Points an entry to its slots, at once for every CPU.
    pub(super) fn switch(&self, key: VipKey, range: Range) -> Result<()> {
        self.vips
            .update(key.to_bytes(), range.to_bytes())
            .map(drop)
            .attempt(|| format!("write {} to the map vips", entry(key)))
    }

    /// Removes an entry.
    pub(super) fn remove(&self, key: VipKey) -> Result<()> {
        self.vips
            .remove(key.to_bytes())
            .attempt(|| format!("remove {} from the map vips", entry(key)))
    }

    /// How many turns a cursor has given, of each kind.
    pub(super) fn cursor(&self, index: u32) -> Result<Cursor> {
        let turns = self.cursors.lookup(index.to_ne_bytes());
        let turns = turns.attempt(|| format!("read cursor {index}"))?;
        Ok(Cursor::from_bytes(turns.unwrap_or_default()))
    }

    /// Lets a cursor, which no program uses yet, go on from where another one is.
    pub(super) fn set_cursor(&self, index: u32, turns: Cursor) -> Result<()> {
        self.cursors
            .update(index.to_ne_bytes(), turns.to_bytes())
            .map(drop)
            .attempt(|| format!("write cursor {index} of the map cursors"))
    }

    /// Sets a cursor, which no slot in use may point to, back to the first turn.
    pub(super) fn reset_cursor(&self, index: u32) -> Result<()> {
        self.set_cursor(index, Cursor::default())
    }

    /// What the maps are, and the highest scope that an app was ever given.
    pub(super) fn layout(&self) -> Result<Layout> {
        let value = self.layout.lookup([0; 4]).attempt(|| "read the map layout".to_owned())?;
        Ok(Layout::from_bytes(value.unwrap_or_default()))
    }

    /// Notes the highest scope that an app is given, before it is.
    pub(super) fn set_last_scope(&self, last_scope: u32) -> Result<()> {
        let layout = Layout { last_scope, ..self.layout()? };
        self.layout
            .update([0; 4], layout.to_bytes())
            .map(drop)
            .attempt(|| "write the last scope to the map layout".to_owned())
    }

    /// The counters, summed over all CPUs.
    pub(super) fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).attempt(|| "read the counters".to_owned())?;
        let sum = |field: usize| per_cpu.iter().map(|counters| counters[field]).sum();
        Ok(Counters { unreachable: sum(0), unsettled: sum(1), unrecorded: sum(2), evicted: sum(3) })
    }
}

/// An entry, for people.
fn entry(key: VipKey) -> String {
    let VipKey { scope, vip, port, protocol, reserved: _ } = key;
    let (vip, protocol) = (Ipv4Addr::from(vip), protocol as u8);
    format!("the entry of {vip} of scope {scope}, port {port}, protocol {protocol}")
}
