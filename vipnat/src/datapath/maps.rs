//! The pinned maps, read and written in the types of `vipnat-common`.

use std::{os::fd::AsFd as _, path::Path};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use vipnat_common::{
    Range, Slot, VipKey,
    layout::{Counters, Scope},
};

use super::{
    error::{Attempt as _, Error, Result},
    object,
    snapshot::Snapshot,
    sys,
};

/// The maps of one state directory.
pub(super) struct Maps {
    vips: HashMap<MapData, [u8; 12], [u8; 8]>,
    backends: Array<MapData, [u8; 24]>,
    cursors: Array<MapData, u64>,
    counters: PerCpuArray<MapData, [u64; 4]>,
    scope: MapData,
    /// The first two again, for whole reads: aya's types do not lend their descriptor.
    raw_vips: MapData,
    raw_backends: MapData,
}

impl Maps {
    /// Opens the maps of a state directory of the right layout.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = |name: &str| {
            let map = Map::from_map_data(object::map(path, name)?);
            map.attempt(|| format!("open the map {name}"))
        };
        Ok(Self {
            vips: HashMap::try_from(open("vips")?).attempt(|| "open the map vips".to_owned())?,
            backends: Array::try_from(open("backends")?)
                .attempt(|| "open the map backends".to_owned())?,
            cursors: Array::try_from(open("cursors")?)
                .attempt(|| "open the map cursors".to_owned())?,
            counters: PerCpuArray::try_from(open("counters")?)
                .attempt(|| "open the map counters".to_owned())?,
            scope: object::map(path, "scope")?,
            raw_vips: object::map(path, "vips")?,
            raw_backends: object::map(path, "backends")?,
        })
    }

    /// Reads entries and slots back.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let mut foreign = None;
        sys::dump(self.raw_vips.fd().as_fd(), |key, range| match VipKey::from_bytes(key) {
            Some(key) => drop(snapshot.entries.insert(key, Range::from_bytes(range))),
            None => foreign = Some("vips"),
        })
        .attempt(|| "read the map vips".to_owned())?;
        sys::dump(self.raw_backends.fd().as_fd(), |index, slot| {
            if slot != Slot::FREE {
                match Slot::from_bytes(slot) {
                    Some(slot) => drop(snapshot.slots.insert(u32::from_ne_bytes(index), slot)),
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
    pub(super) fn write_slot(&mut self, index: u32, slot: Slot) -> Result<()> {
        self.backends
            .set(index, slot.to_bytes(), 0)
            .attempt(|| format!("write slot {index} of the map backends"))
    }

    /// Frees a slot, which no range may have pointed to for a grace period.
    pub(super) fn free_slot(&mut self, index: u32) -> Result<()> {
        self.backends
            .set(index, Slot::FREE, 0)
            .attempt(|| format!("free slot {index} of the map backends"))
    }

    /// Points an entry to its slots, at once for every CPU.
    pub(super) fn switch(&mut self, key: VipKey, range: Range) -> Result<()> {
        self.vips
            .insert(key.to_bytes(), range.to_bytes(), 0)
            .attempt(|| format!("write {key:?} to the map vips"))
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: VipKey) -> Result<()> {
        self.vips.remove(&key.to_bytes()).attempt(|| format!("remove {key:?} from the map vips"))
    }

    /// How many turns a cursor has given.
    pub(super) fn cursor(&self, index: u32) -> Result<u64> {
        self.cursors.get(&index, 0).attempt(|| format!("read cursor {index}"))
    }

    /// Sets a cursor, which no slot in use may point to, back to the first turn.
    pub(super) fn reset_cursor(&mut self, index: u32) -> Result<()> {
        self.cursors.set(index, 0, 0).attempt(|| format!("reset cursor {index}"))
    }

    /// The app that a cgroup belongs to in the kernel's eyes: 0 if translation is off, `None` if no
    /// program was ever attached to it.
    pub(super) fn scope(&self, cgroup: u64) -> Result<Option<u32>> {
        let value = sys::lookup(self.scope.fd().as_fd(), cgroup.to_ne_bytes());
        let value = value.attempt(|| format!("read the scope of cgroup {cgroup}"))?;
        Ok(value.map(|bytes| Scope::from_bytes(bytes).id))
    }

    /// The switch: from now on the cgroup's sockets see this app's VIPs; with 0, none. Returns
    /// `false` if no program was ever attached to the cgroup, and so there is nothing to switch.
    pub(super) fn set_scope(&self, cgroup: u64, id: u32) -> Result<bool> {
        let value = Scope { id, reserved: 0 }.to_bytes();
        sys::update(self.scope.fd().as_fd(), cgroup.to_ne_bytes(), value)
            .attempt(|| format!("write the scope of cgroup {cgroup}"))
    }

    /// The counters, summed over all CPUs.
    pub(super) fn counters(&self) -> Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).attempt(|| "read the counters".to_owned())?;
        let sum = |field: usize| per_cpu.iter().map(|counters| counters[field]).sum();
        Ok(Counters {
            redirected: sum(0),
            unreachable: sum(1),
            unsettled: sum(2),
            unrecorded: sum(3),
        })
    }
}
