//! Keys and values of the pinned maps, as the kernel sees them.
//!
//! Addresses are byte arrays in network order and ports are in host order, so that `bpftool map
//! dump` reads like the relationship table. No type has padding the compiler may leave
//! uninitialised: the verifier refuses such keys, and they would compare unequal.
//!
//! A change of any type here, or of what a field means, needs a new [`LAYOUT`]. [`Scope`] is frozen for
//! ever; see there.

pub use network_types::ip::IpProto as Protocol;

/// The version of everything in this module, kept in the pinned `layout` map. The loader refuses
/// pinned state that has another one.
pub const LAYOUT: u32 = if cfg!(feature = "other-layout") { 1003 } else { 3 };

/// In a [`VipKey`]: every protocol that has connect-time hooks. It is number 0, which iptables
/// reads as "all" too (`iptables(8)`, `-p`).
pub const ANY_PROTOCOL: Protocol = Protocol::HopOpt;

/// In a [`VipKey`]: every port.
pub const ANY_PORT: u16 = 0;

/// The first two bytes of every VIP: 169.254.0.0/16.
pub const VIP_RANGE: [u8; 2] = [169, 254];

/// How many elements the pinned maps hold at least. Whoever makes them chooses how many, by the table
/// that they are for.
pub mod capacity {
    /// Entries of `vips`; a VIP limited to a port or protocol takes two.
    pub const VIPS: u32 = 1 << 10;
    /// Slots of `backends`. A change needs the old and the new list at once.
    pub const BACKENDS: u32 = 1 << 12;
    /// Cursors, one for each (app, VIP).
    pub const CURSORS: u32 = 1 << 10;

    /// So many times as much they hold at most: a million VIPs, four million slots, some 200 MB.
    pub const MOST: u32 = 1 << 10;
}

/// The value of the `scope` map (cgroup storage, keyed by cgroup id): which app the cgroup is.
///
/// **Frozen for ever.** `bpf_get_local_storage` returns the storage that was allocated when the
/// link was made, whatever map the program names; a later program that believed it to be larger
/// would read past its end (`__cgroup_bpf_attach` in kernel/bpf/cgroup.c).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The app's number. 0, which is also what fresh storage holds, translates nothing.
    pub id: u32,
    /// Zero. The only room this value will ever have.
    pub reserved: u32,
}

/// The key of the `vips` map, and the name of the owner in each [`Slot`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VipKey {
    /// The app, from [`Scope::id`].
    pub scope: u32,
    /// The VIP, network byte order.
    pub vip: [u8; 4],
    /// Destination port, host byte order, or [`ANY_PORT`].
    pub port: u16,
    /// The protocol, or [`ANY_PROTOCOL`].
    pub protocol: Protocol,
    /// Zero, so that the key has no padding.
    pub reserved: u8,
}

impl VipKey {
    /// The key for one port and protocol of a VIP.
    #[inline(always)]
    pub const fn new(scope: u32, vip: [u8; 4], port: u16, protocol: Protocol) -> Self {
        Self { scope, vip, port, protocol, reserved: 0 }
    }

    /// The key under which every VIP has an entry, whatever it is limited to.
    #[inline(always)]
    pub const fn head(scope: u32, vip: [u8; 4]) -> Self {
        Self::new(scope, vip, ANY_PORT, ANY_PROTOCOL)
    }
}

/// The value of the `vips` map: where the VIP's slots are in `backends`.
///
/// It is only a hint. The kernel recycles hash elements at once, so by the time a program reads
/// it, it may be another VIP's; the owner in the slot decides. Eight aligned bytes are read in one
/// piece, so first and count belong together unless the kernel copies them in smaller ones. Then the
/// owner of the chosen slot tells a count that is too large; one that is too small picks another
/// backend of the list.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Index of the first slot.
    pub first: u32,
    /// Number of slots, at least 1.
    pub count: u32,
}

/// A value of the `backends` map: one turn of a VIP's round robin.
///
/// A slot is written only while no [`Range`] points to it. When none does any more, it is
/// [`Slot::RETIRED`]; an RCU grace period later it is [`Slot::EMPTIED`], and after another one it is free,
/// which is all zeroes. The first period is for programs that found it through an entry; the second for
/// those that have its index from a flow, and would otherwise read its backend before and its flags after
/// it is used again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The VIP this slot belongs to. A program that looked up any other must not use it.
    pub owner: VipKey,
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The backend's port, host byte order; 0 keeps the port the application asked for.
    pub port: u16,
    /// [`Slot::LIMITED`], [`Slot::UNREACHABLE`], [`Slot::RANDOM`], [`Slot::STRICT`], [`Slot::RETIRED`].
    pub flags: u16,
    /// Index of the VIP's counter in `cursors`, the same in all its slots.
    pub cursor: u32,
}

impl Slot {
    /// The VIP is translated for one port or protocol only, and this is the slot of its head
    /// entry, which no connection uses: look up the limited keys.
    pub const LIMITED: u16 = 1;
    /// The VIP is known but has no backend: refuse.
    pub const UNREACHABLE: u16 = 2;
    /// Chance decides among the slots, not whose turn it is. The same in all slots of a list.
    pub const RANDOM: u16 = 4;
    /// UDP flows keep their backend when it leaves the table. The same in all slots of a list.
    pub const STRICT: u16 = 8;
    /// No entry leads here any more: the list was replaced, or its VIP went. Written beside what the
    /// slot holds, so that a program that found it before still can use it; UDP flows no longer do.
    pub const RETIRED: u16 = 16;

    /// What is left of a retired slot when no program that was led to it can be using it.
    pub const EMPTIED: Self = Self {
        owner: VipKey::new(0, [0; 4], ANY_PORT, ANY_PROTOCOL),
        ip: [0; 4],
        port: 0,
        flags: Self::RETIRED,
        cursor: 0,
    };
}

/// The value of the `cursors` map: how many turns a VIP has given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// To whatever sends at once: connections, and flows of datagrams.
    pub sent: u64,
    /// To UDP sockets that connect. Nobody can tell whether they will ever send: resolvers connect
    /// them to each address of a name, only to sort the addresses. So they take turns among
    /// themselves, and whose turn it is otherwise does not depend on them.
    pub udp_connects: u64,
}

impl Cursor {
    /// Turns of both kinds.
    pub const fn total(&self) -> u64 {
        self.sent.wrapping_add(self.udp_connects)
    }
}

/// The value of the `flows` map (socket storage): what this socket was connected from and to.
///
/// With what the kernel needs for each value, 72 bytes, this just fits the allocator's 96.
///
/// Sockets outlive upgrades: a layout with another `Note` or other [`Datagrams`] loses what open ones
/// are connected through, so new fields go elsewhere if they can.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The app whose hook translated. Cgroups nest: a parent's hook runs after the child's and
    /// must not take the child's note for a stale one of its own.
    pub scope: u32,
    /// What the application asked for, network byte order; all zeroes: no VIP.
    pub vip: [u8; 4],
    /// What it was given, network byte order.
    pub backend: [u8; 4],
    /// The port the application asked for, host byte order.
    pub vip_port: u16,
    /// The port it was given, host byte order.
    pub backend_port: u16,
    /// UDP: the slot of `backends` that named the backend, a hint, with [`Note::ANSWERED`] and
    /// [`Note::STRICT`].
    pub slot: u32,
    /// UDP: from when on an answered flow counts as a stream, which lives longer, in
    /// [`Moment`](crate::flow::Moment)s.
    pub stream: u32,
}

impl Note {
    /// In `slot`: the backend has answered.
    pub const ANSWERED: u32 = 1 << 31;
    /// In `slot`: the flow keeps its backend when that leaves the table.
    pub const STRICT: u32 = 1 << 30;
}

/// One of the [`Datagrams`]: what a socket that is not connected sends through.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// What a socket that is connected notes.
    pub note: Note,
    /// The port of the socket itself, host byte order.
    pub local_port: u16,
    /// [`Flow::HIDDEN`], [`Flow::PEER`].
    pub flags: u16,
    /// When the flow ends unless there is more traffic, in [`Moment`](crate::flow::Moment)s.
    pub expires: u32,
}

impl Flow {
    /// The socket has sent to the backend's own address since, so what comes from there is not shown
    /// as the VIP's.
    pub const HIDDEN: u16 = 1;
    /// The socket was connected through this flow when it connected again, and nothing was sent through
    /// the flow since. If that connect failed, this still is what the socket is connected through.
    pub const PEER: u16 = 2;
}

/// What the iterator over `flows` writes for each socket; it is in no map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketNote {
    /// The socket's cookie, which no other socket ever has.
    pub cookie: u64,
    /// What is noted in it.
    pub note: Note,
    /// The socket itself, so that it is found without a list of all sockets of its network namespace.
    pub socket: SocketFields,
    /// Zero.
    pub reserved: u32,
}

/// What the kernel keeps in `struct sock` of a socket that is connected, or was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFields {
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// `IPPROTO_TCP` and the like. `IPPROTO_MPTCP` needs more than a byte.
    pub protocol: u16,
    /// One of include/net/tcp_states.h.
    pub state: u16,
    /// Its own port, host byte order.
    pub local_port: u16,
    /// Its peer's port, network byte order.
    pub remote_port: [u8; 2],
    /// Zero.
    pub reserved: u16,
    /// The device that it is bound to, or 0.
    pub device: u32,
    /// The inode number of its network namespace.
    pub namespace: u32,
    /// Its own address, if it is an IPv4 socket.
    pub local_v4: [u8; 4],
    /// Its peer's, likewise.
    pub remote_v4: [u8; 4],
    /// Its own address, if it is an IPv6 socket.
    pub local_v6: [u8; 16],
    /// Its peer's, likewise.
    pub remote_v6: [u8; 16],
}

/// Where [`SocketFields`] are in `struct sock`, in bytes: as the kernel's own types say, since it differs
/// from one kernel to the next. Set before the iterator is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOffsets {
    /// A `u16`.
    pub family: u32,
    /// A `u16`.
    pub protocol: u32,
    /// A `u8`.
    pub state: u32,
    /// A `u16`.
    pub local_port: u32,
    /// A `u16`.
    pub remote_port: u32,
    /// A `u32`.
    pub device: u32,
    /// A pointer to the namespace.
    pub namespace: u32,
    /// In the namespace: a `u32`.
    pub namespace_number: u32,
    /// Four bytes.
    pub local_v4: u32,
    /// Four bytes.
    pub remote_v4: u32,
    /// Sixteen bytes.
    pub local_v6: u32,
    /// Sixteen bytes.
    pub remote_v6: u32,
}

/// The value of the `datagrams` map (socket storage): the flows of a UDP socket that sends without
/// being connected. The kernel runs all hooks of a UDP socket under its lock
/// (`BPF_CGROUP_RUN_SA_PROG_LOCK` in include/linux/bpf-cgroup.h, `inet_getname`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// The one that was last sent to first; those without a VIP are free.
    pub flows: [Flow; Datagrams::CAPACITY],
}

impl Datagrams {
    /// How many flows one socket can have at a time.
    pub const CAPACITY: usize = 16;
}

/// The value of the `counters` map (one per CPU): what went wrong since the maps were
/// made. What went right, the [`Cursor`]s count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connects and datagrams refused because the VIP has no backend.
    pub unreachable: u64,
    /// Connects and datagrams refused because the VIP's entry changed at every look.
    pub unsettled: u64,
    /// Connects and datagrams sent to a backend of which the socket keeps no record, because the
    /// kernel had no memory for it (`net.core.optmem_max`): peers and sources show the backend, and
    /// each datagram is a flow of its own.
    pub unrecorded: u64,
    /// UDP flows that ended early because their socket had too many.
    pub evicted: u64,
}

/// The value of the `layout` map, which the programs never read.
///
/// **Frozen for ever**, so that any vipnat can tell what state is another's, and take it over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// [`LAYOUT`] of the program that made the maps.
    pub version: u32,
    /// The first four bytes of the SHA-256 of the object that the programs were made of, to tell
    /// builds apart; zeroes while they are replaced.
    pub build: [u8; 4],
    /// The highest scope that an app was given. None is given twice: sockets keep flows of theirs.
    pub last_scope: u32,
}

// Sizes and offsets are part of the pinned state: a change here is a new LAYOUT.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Scope>() == 8);
    assert!(size_of::<VipKey>() == 12);
    assert!(offset_of!(VipKey, vip) == 4);
    assert!(offset_of!(VipKey, port) == 8);
    assert!(offset_of!(VipKey, protocol) == 10);
    assert!(offset_of!(VipKey, reserved) == 11);
    assert!(size_of::<Range>() == 8 && align_of::<Range>() == 8);
    assert!(size_of::<Slot>() == 24);
    assert!(offset_of!(Slot, ip) == 12);
    assert!(offset_of!(Slot, port) == 16);
    assert!(offset_of!(Slot, flags) == 18);
    assert!(offset_of!(Slot, cursor) == 20);
    assert!(size_of::<Cursor>() == 16);
    assert!(offset_of!(Cursor, udp_connects) == 8);
    assert!(size_of::<Note>() == 24 && align_of::<Note>() == 8);
    assert!(size_of::<Flow>() == 32);
    assert!(offset_of!(Flow, local_port) == 24);
    assert!(size_of::<SocketFields>() == 60);
    assert!(size_of::<SocketNote>() == 96);
    assert!(size_of::<SocketOffsets>() == 48);
    assert!(size_of::<Datagrams>() == 512);
    assert!(size_of::<Counters>() == 32);
    assert!(size_of::<Layout>() == 12);
    assert!(offset_of!(Layout, last_scope) == 8);
};
