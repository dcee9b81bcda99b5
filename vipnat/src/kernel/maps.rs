//! The pinned maps, read and written in the types of `vipnat-common`.

use std::{
    cell::Cell,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use aya::maps::{Map, MapData, PerCpuArray};
use aya_obj::generated::bpf_map_type::{
    BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED, BPF_MAP_TYPE_HASH,
};
use rustc_hash::FxHashMap;
use vipnat_common::{
    AppId, Range, Slot, VipKey,
    abi::{Counters, Cursor, Layout, Scope},
};
use vipnat_core::{
    model::{Capacity, Snapshot},
    plan::{MapOps, Step, execute},
};

use super::{
    byte_map::ByteMap,
    compat,
    error::{Attempt as _, Error, Result},
    grace_period, pins,
};

/// The map `scope` of one state directory. It is the same in every layout.
pub(crate) struct Switch {
    scope: ByteMap<8, 8>,
}

impl Switch {
    /// Opens the map.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let pin = pins::map_pin(path, "scope");
        let scope = ByteMap::open(&pin, BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED);
        Ok(Self { scope: scope.attempt(|| format!("open {}", pin.display()))? })
    }

    /// The app to which a cgroup belongs in the kernel: [`AppId::NONE`] if translation is off, `None` if no
    /// program was ever attached to it.
    pub(crate) fn app_of(&self, cgroup: u64) -> Result<Option<AppId>> {
        let value = self.scope.lookup(cgroup.to_ne_bytes());
        let value = value.attempt(|| format!("read the scope of cgroup {cgroup}"))?;
        Ok(value.map(|bytes| Scope::from_bytes(bytes).app_id()))
    }

    /// Switches a cgroup: from now on its sockets see this app's VIPs; with [`AppId::NONE`], none.
    /// Returns `false` if no program was ever attached to the cgroup: there is nothing to switch.
    pub(crate) fn set(&self, cgroup: u64, app: AppId) -> Result<bool> {
        let value = Scope::new(app).to_bytes();
        self.scope
            .update(cgroup.to_ne_bytes(), value)
            .attempt(|| format!("write the scope of cgroup {cgroup}"))
    }
}

/// The maps of one state directory.
pub(crate) struct Maps {
    vips: ByteMap<12, 8>,
    backends: ByteMap<4, 24>,
    cursors: ByteMap<4, 16>,
    switch: Switch,
    layout: ByteMap<4, 12>,
    /// The pin of the counters. Few commands read them, and they differ most between builds.
    counters: PathBuf,
}

impl Maps {
    /// Opens the maps of a state directory, if they have the right types and sizes.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let pin = |name: &str| pins::map_pin(path, name);
        let open = |name: &str| format!("open {}", pin(name).display());
        Ok(Self {
            vips: ByteMap::open(&pin("vips"), BPF_MAP_TYPE_HASH).attempt(|| open("vips"))?,
            backends: ByteMap::open(&pin("backends"), BPF_MAP_TYPE_ARRAY)
                .attempt(|| open("backends"))?,
            cursors: ByteMap::open(&pin("cursors"), BPF_MAP_TYPE_ARRAY)
                .attempt(|| open("cursors"))?,
            switch: Switch::open(path)?,
            layout: compat::layout_map(path)?,
            counters: pin("counters"),
        })
    }

    /// The switch of each cgroup.
    pub(crate) fn cgroups(&self) -> &Switch {
        &self.switch
    }

    /// The sizes of the maps.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            vips: self.vips.capacity(),
            backends: self.backends.capacity(),
            cursors: self.cursors.capacity(),
        }
    }

    /// Reads entries and slots back.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.copy()?.snapshot()
    }

    /// Copies entries and slots, and does no more: the caller holds a lock.
    pub(crate) fn copy(&self) -> Result<Copied> {
        let mut entries = Vec::new();
        let read = self.vips.for_each(|key, range| entries.push((key, range)));
        read.attempt(|| "read the map vips".to_owned())?;
        Ok(Copied { entries, slots: self.slots()?, capacity: self.capacity() })
    }

    /// Writes entries and slots again that differ from a snapshot of these maps, also those that no vipnat
    /// could have written. The slots come first, so that no entry leads to a wrong one.
    pub(crate) fn restore(&self, right: &Snapshot) -> Result<()> {
        let now =
            self.backends.all(|bytes| bytes).attempt(|| "read the map backends".to_owned())?;
        let bytes = |slot: &Option<Slot>| slot.map_or(Slot::FREE, Slot::to_bytes);
        let slots = (0_u32..).zip(right.slots.iter().map(bytes).zip(now));
        let slots = slots.filter(|(_, (right, now))| right != now);
        let slots = slots.map(|(index, (right, _))| (index.to_ne_bytes(), right));
        self.backends.update_all(slots).attempt(|| "write slots of the map backends".to_owned())?;
        let mut now = FxHashMap::default();
        let read = self.vips.for_each(|key, range| {
            now.insert(key, range);
        });
        read.attempt(|| "read the map vips".to_owned())?;
        let entries = right.entries.iter().map(|(key, range)| (key.to_bytes(), range.to_bytes()));
        let wanted: FxHashMap<_, _> = entries.collect();
        let strange = now.keys().filter(|key| !wanted.contains_key(*key)).copied();
        self.vips.remove_all(strange).attempt(|| "remove entries from the map vips".to_owned())?;
        let wrong = wanted.iter().filter(|(key, range)| now.get(*key) != Some(*range));
        self.vips
            .update_all(wrong.map(|(key, range)| (*key, *range)))
            .attempt(|| "write entries to the map vips".to_owned())
    }

    /// A snapshot of the slots alone, see [`Snapshot::of_slots`].
    pub(crate) fn snapshot_of_slots(&self) -> Result<Snapshot> {
        Ok(Snapshot::of_slots(self.slots()?, self.capacity()))
    }

    fn slots(&self) -> Result<Vec<Option<Slot>>> {
        let corrupt = Cell::new(false);
        let slot = |bytes: [u8; 24]| match bytes {
            Slot::FREE => None,
            bytes => {
                let slot = Slot::from_bytes(bytes);
                corrupt.set(corrupt.get() || slot.is_none());
                slot
            }
        };
        let slots = self.backends.all(slot).attempt(|| "read the map backends".to_owned())?;
        if corrupt.get() { Err(corrupt_map("backends")) } else { Ok(slots) }
    }

    /// Carries steps out, in their order.
    pub(crate) fn execute(&self, steps: &[Step<'_>]) -> Result<()> {
        execute(steps, &mut &*self)
    }

    /// The turns that each cursor has given, by index.
    pub(crate) fn all_cursors(&self) -> Result<Vec<Cursor>> {
        self.cursors.all(Cursor::from_bytes).attempt(|| "read the map cursors".to_owned())
    }

    /// Gives counts to cursors that no program uses yet, so that they go on from the counts of others.
    pub(crate) fn set_cursors(&self, cursors: &[(u32, Cursor)]) -> Result<()> {
        let all = cursors.iter().map(|(index, turns)| (index.to_ne_bytes(), turns.to_bytes()));
        self.cursors.update_all(all).attempt(|| "write cursors of the map cursors".to_owned())
    }

    /// The layout and build of the maps, and the highest app id that was ever given.
    pub(crate) fn layout(&self) -> Result<Layout> {
        let value = self.layout.lookup([0; 4]).attempt(|| "read the map layout".to_owned())?;
        Ok(Layout::from_bytes(value.unwrap_or_default()))
    }

    /// Writes the highest app id, before the id is given.
    pub(crate) fn set_last_app(&self, last_app: AppId) -> Result<()> {
        let layout = Layout { last_app: last_app.0, ..self.layout()? };
        self.layout
            .update([0; 4], layout.to_bytes())
            .map(drop)
            .attempt(|| "write the last app id to the map layout".to_owned())
    }

    /// The counters, summed over all CPUs.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let open = || format!("open {}", self.counters.display());
        let counters = MapData::from_pin(&self.counters).and_then(Map::from_map_data);
        let counters: PerCpuArray<_, [u64; 4]> =
            counters.and_then(PerCpuArray::try_from).attempt(open)?;
        let per_cpu = counters.get(&0, 0).attempt(|| "read the counters".to_owned())?;
        let sum = |field: usize| per_cpu.iter().map(|counters| counters[field]).sum();
        Ok(Counters { unreachable: sum(0), unsettled: sum(1), unrecorded: sum(2), evicted: sum(3) })
    }
}

/// Each call is one system call, or few, for all of its elements.
impl MapOps for &Maps {
    type Error = Error;

    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<()> {
        let slots = slots.iter().map(|(index, slot)| (index.to_ne_bytes(), slot.to_bytes()));
        self.backends.update_all(slots).attempt(|| "write slots of the map backends".to_owned())
    }

    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<()> {
        let all = entries.iter().map(|(key, range)| (key.to_bytes(), range.to_bytes()));
        self.vips.update_all(all).attempt(|| match entries {
            [(key, _)] => format!("write {} to the map vips", entry(*key)),
            _ => format!("write {} entries to the map vips", entries.len()),
        })
    }

    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<()> {
        let all = keys.iter().map(|key| key.to_bytes());
        self.vips.remove_all(all).attempt(|| match keys {
            [key] => format!("remove {} from the map vips", entry(*key)),
            _ => format!("remove {} entries from the map vips", keys.len()),
        })
    }

    fn retire_slots(&mut self, slots: &[(u32, Slot)]) -> Result<()> {
        self.write_slots(slots)
    }

    fn wait(&mut self) -> Result<()> {
        grace_period::wait()
    }

    fn reset_cursors(&mut self, indices: &[u32]) -> Result<()> {
        let first = |index: &u32| (*index, Cursor::default());
        self.set_cursors(&indices.iter().map(first).collect::<Vec<_>>())
    }

    fn empty_slots(&mut self, indices: &[u32]) -> Result<()> {
        let emptied = |index: &u32| (*index, Slot::EMPTIED);
        self.write_slots(&indices.iter().map(emptied).collect::<Vec<_>>())
    }

    fn free_slots(&mut self, indices: &[u32]) -> Result<()> {
        let slots = indices.iter().map(|index| (index.to_ne_bytes(), Slot::FREE));
        self.backends.update_all(slots).attempt(|| "free slots of the map backends".to_owned())
    }
}

/// The maps `vips` and `backends`. The keys of entries are bytes.
#[derive(Debug)]
pub(crate) struct Copied {
    entries: Vec<([u8; 12], [u8; 8])>,
    slots: Vec<Option<Slot>>,
    capacity: Capacity,
}

impl Copied {
    /// Decodes the bytes.
    pub(crate) fn snapshot(self) -> Result<Snapshot> {
        let Self { entries: bytes, slots, capacity } = self;
        let mut entries = FxHashMap::default();
        entries.reserve(bytes.len());
        for (key, range) in bytes {
            let range = Range::from_bytes(range);
            let end = range.first.checked_add(range.count);
            let within = end.is_some_and(|end| end <= capacity.backends);
            let key =
                VipKey::from_bytes(key).filter(|_| within).ok_or_else(|| corrupt_map("vips"))?;
            entries.insert(key, range);
        }
        Ok(Snapshot { entries, slots, capacity })
    }
}

fn corrupt_map(map: &'static str) -> Error {
    Error::CorruptMap { map }
}

/// An entry, in the form that vipnat prints.
fn entry(key: VipKey) -> String {
    let VipKey { app, vip, port, protocol, reserved: _ } = key;
    let (vip, protocol) = (Ipv4Addr::from(vip), protocol as u8);
    format!("the entry of {vip} of app id {app}, port {port}, protocol {protocol}")
}
