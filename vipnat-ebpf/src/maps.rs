//! The pinned maps, under the names that `bpftool` and the loader use. Only raw reads, no decision.

use core::{
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::{addr_of, addr_of_mut},
};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED},
    btf_maps::{Array, HashMap, PerCpuArray, SkStorage},
    helpers::{bpf_get_local_storage, bpf_get_prandom_u32},
    macros::btf_map,
};
use vipnat_common::{
    AppId, ConnRecord, Count, Maps, Range, Slot, UdpFlows, VipKey,
    abi::{Counters, Cursor, Layout, Scope, capacity},
};

#[btf_map(name = "scope")]
static SCOPE: SharedCgroupStorage<Scope> = SharedCgroupStorage::new();

#[btf_map(name = "vips")]
static VIPS: HashMap<VipKey, Range, { capacity::VIPS as usize }> = HashMap::new();

#[btf_map(name = "backends")]
static BACKENDS: Array<Slot, { capacity::BACKENDS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map(name = "cursors")]
static CURSORS: Array<Cursor, { capacity::CURSORS as usize }> = Array::new();

#[btf_map(name = "conns")]
pub(crate) static CONNS: SkStorage<ConnRecord> = SkStorage::new();

#[btf_map(name = "udp_flows")]
pub(crate) static UDP_FLOWS: SkStorage<UdpFlows> = SkStorage::new();

#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Only the loader reads this map.
#[btf_map(name = "layout")]
static LAYOUT: Array<Layout, 1> = Array::new();

/// Cgroup storage keyed by the cgroup id alone (kernel 5.9). All hooks of a cgroup share one value, and one
/// write switches them all. aya's own type has the older key, which contains the attach type. It has
/// one value for each hook.
#[repr(C)]
struct SharedCgroupStorage<V> {
    r#type: *const [i32; BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as usize],
    key: *const u64,
    value: *const V,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 0],
}

// SAFETY: the pointers only carry types into BTF. They are null, and no program follows them.
unsafe impl<V> Sync for SharedCgroupStorage<V> {}

impl<V> SharedCgroupStorage<V> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }
}

/// The app of the cgroup to which the running link is attached; [`AppId::NONE`] if translation is off.
#[inline(always)]
pub(crate) fn app() -> AppId {
    // SAFETY: the helper returns the storage of the link, never null, as large as its map's value.
    unsafe {
        let map = (&raw const SCOPE).cast_mut().cast();
        let scope: *const Scope = bpf_get_local_storage(map, 0).cast();
        AppId((&raw const (*scope).app).read_volatile())
    }
}

/// Counts one event of this CPU.
#[inline(always)]
pub(crate) fn count(field: impl FnOnce(*mut Counters) -> *mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is into the map's value. Atomic, because another program can preempt this one
        // on the same CPU: the kernel only disables migration while a program runs.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(field(counters), 1) };
    }
}

/// The maps in the running kernel.
pub(crate) struct KernelMaps;

impl Maps for KernelMaps {
    #[inline(always)]
    fn entry(&self, key: &VipKey) -> Option<Range> {
        let range = VIPS.get_ptr(key)?;
        // SAFETY: a pointer from a lookup stays readable while the program runs. Its value may become that of
        // another key, so it is read once, in one piece.
        let word = unsafe { range.cast::<u64>().read_volatile() };
        Some(zerocopy::transmute!(word))
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<Slot> {
        BACKENDS.get(index).copied()
    }

    #[inline(always)]
    fn take_turn(&self, cursor: u32, count: Count) -> Option<u64> {
        let cursor = CURSORS.get_ptr_mut(cursor)?;
        // SAFETY: the pointer is into the map's value.
        let count = unsafe {
            match count {
                Count::Turns => addr_of_mut!((*cursor).turns),
                Count::UdpConnects => addr_of_mut!((*cursor).udp_connects),
            }
        };
        // SAFETY: as above. SeqCst, because LLVM 22 drops the fetch of a Relaxed one and returns the
        // addend (llvm/llvm-project#210280).
        Some(unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(count, 1) })
    }

    #[inline(always)]
    fn peek_turn(&self, cursor: u32, count: Count) -> Option<u64> {
        let cursor = CURSORS.get_ptr(cursor)?;
        // SAFETY: the pointer is into the map's value; eight aligned bytes are read in one piece.
        Some(unsafe {
            match count {
                Count::Turns => addr_of!((*cursor).turns),
                Count::UdpConnects => addr_of!((*cursor).udp_connects),
            }
            .read_volatile()
        })
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: no arguments.
        unsafe { bpf_get_prandom_u32() }
    }
}
