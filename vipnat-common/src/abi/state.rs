//! The state as a whole: its version, its capacity, its counters, and the map that switches apps.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::keys::AppId;

/// The version of everything in [`abi`](super). The pinned map `layout` keeps it. The loader refuses
/// pinned state of another version, and takes it over when it applies a table.
pub const LAYOUT: u32 = if cfg!(feature = "other-layout") { 1004 } else { 4 };

/// The smallest sizes of the pinned maps. The loader makes the maps larger if the table needs it.
pub mod capacity {
    /// Entries of `vips`; a VIP limited to a port or protocol takes two.
    pub const VIPS: u32 = 1 << 10;
    /// Slots of `backends`. A change needs the old and the new list at once.
    pub const BACKENDS: u32 = 1 << 12;
    /// Cursors, one for each (app, VIP).
    pub const CURSORS: u32 = 1 << 10;

    /// The maps hold at most this many times as much: a million VIPs, four million slots, some 200 MB.
    pub const MOST: u32 = 1 << 10;
}

/// The value of the `scope` map (cgroup storage, keyed by cgroup id): the app to which the cgroup
/// belongs.
///
/// **Frozen for ever.** `bpf_get_local_storage` returns the storage that the kernel allocated when the
/// link was made, whichever map the program names. A later program with a larger value would read past
/// its end (`__cgroup_bpf_attach` in kernel/bpf/cgroup.c).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Scope {
    /// An [`AppId`]. 0 translates nothing; fresh storage holds 0.
    pub app: u32,
    /// Zero. This is the only room that the value will ever have.
    pub reserved: u32,
}

impl Scope {
    /// The value that switches a cgroup to this app.
    pub const fn new(app: AppId) -> Self {
        Self { app: app.0, reserved: 0 }
    }

    /// The app.
    pub const fn app_id(&self) -> AppId {
        AppId(self.app)
    }
}

/// The value of the `counters` map (one per CPU): refusals and failures since the maps were made. The
/// [`Cursor`](super::Cursor)s count the successes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Counters {
    /// Connects and datagrams refused because the VIP has no backend.
    pub unreachable: u64,
    /// Connects and datagrams refused because the VIP's entry changed at every attempt.
    pub unsettled: u64,
    /// Connects and datagrams sent to a backend without a record in the socket, because the kernel had no
    /// memory for it (`net.core.optmem_max`). Peers and sources then show the backend, and each datagram is a
    /// flow of its own.
    pub unrecorded: u64,
    /// UDP flows that ended early because their socket had too many.
    pub evicted: u64,
}

/// The value of the `layout` map, which the programs never read.
///
/// **Frozen for ever**, so that any vipnat can recognise the state of another one and take it over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Layout {
    /// [`LAYOUT`] of the program that made the maps.
    pub version: u32,
    /// The first four bytes of the SHA-256 of the compiled eBPF object. They identify the build. Zeroes
    /// during a program swap.
    pub build: [u8; 4],
    /// The highest [`AppId`] that was given. No id is given twice, because sockets keep flows of
    /// removed apps.
    pub last_app: u32,
}

// Sizes and offsets are part of the pinned state: if you change them, change LAYOUT.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Scope>() == 8);
    assert!(size_of::<Counters>() == 32);
    assert!(size_of::<Layout>() == 12);
    assert!(offset_of!(Layout, last_app) == 8);
};
