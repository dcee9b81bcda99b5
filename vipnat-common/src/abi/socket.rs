//! The values that sockets keep, in the maps `conns` and `udp_flows`, and the values that the iterator
//! over sockets writes.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::keys::AppId;

/// The value of the `conns` map (socket storage): the VIP and the backend of a socket's last connect.
///
/// The kernel adds 72 bytes to each value. Together they just fit the allocator's 96.
///
/// Sockets outlive upgrades. If a new layout changes `ConnRecord` or [`UdpFlows`], open sockets lose
/// their records. So put new fields elsewhere if you can.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct ConnRecord {
    /// The app whose hook translated: an [`AppId`]. Cgroups nest: a parent's hook runs after the
    /// child's. It must not take the child's record for an outdated one of its own.
    pub app: u32,
    /// The address that the application asked for, network byte order; all zeroes if it is no VIP.
    pub vip: [u8; 4],
    /// The address of the backend, network byte order.
    pub backend: [u8; 4],
    /// The port that the application asked for, host byte order.
    pub vip_port: u16,
    /// The port of the backend, host byte order.
    pub backend_port: u16,
    /// UDP: the slot of `backends` that named the backend, as a hint. [`ConnRecord::ANSWERED`] and
    /// [`ConnRecord::STRICT`] are the two highest bits.
    pub slot_and_flags: u32,
    /// UDP: the time from which an answered flow counts as a stream, which lives longer, in
    /// [`Ticks`](crate::Ticks).
    pub stream_after: u32,
}

impl ConnRecord {
    /// In `slot_and_flags`: the backend has answered.
    pub const ANSWERED: u32 = 1 << 31;
    /// In `slot_and_flags`: the flow keeps its backend when the backend leaves the table.
    pub const STRICT: u32 = 1 << 30;

    /// The app whose hook translated.
    #[inline(always)]
    pub const fn app_id(&self) -> AppId {
        AppId(self.app)
    }
}

/// One of the [`UdpFlows`] of a socket that is not connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct UdpFlow {
    /// The VIP and the backend, as a connected socket records them.
    pub record: ConnRecord,
    /// The port of the socket itself, host byte order.
    pub local_port: u16,
    /// [`UdpFlowFlags`].
    pub flags: u16,
    /// The time at which the flow ends unless there is more traffic, in [`Ticks`](crate::Ticks).
    pub expires: u32,
}

bitflags! {
    /// The flags of a [`UdpFlow`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UdpFlowFlags: u16 {
        /// The socket has since sent to the backend's own address, so replies from there show the
        /// backend, not the VIP.
        const REPLIES_UNTRANSLATED = 1;
        /// The socket was connected through this flow when it connected again. It has sent nothing
        /// through the flow since. If that connect failed, the socket is still connected through it.
        const PEER = 2;
    }
}

/// The value of the `udp_flows` map (socket storage): the flows of a UDP socket that sends without
/// being connected. The kernel runs all hooks of a UDP socket under its lock
/// (`BPF_CGROUP_RUN_SA_PROG_LOCK` in include/linux/bpf-cgroup.h, `inet_getname`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct UdpFlows {
    /// The flow that the socket used last comes first. Flows without a VIP are free places.
    pub flows: [UdpFlow; UdpFlows::CAPACITY],
}

impl UdpFlows {
    /// The number of flows that one socket can have at a time.
    pub const CAPACITY: usize = 16;
}

/// The record that the iterator over `conns` writes for each socket. It is in no map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct SocketRecord {
    /// The socket's cookie, which no other socket ever has.
    pub cookie: u64,
    /// The connection record of the socket.
    pub record: ConnRecord,
    /// Fields of the socket. With them vipnat finds it without a list of all sockets of its namespace.
    pub socket: SocketFields,
    /// Zero.
    pub reserved: u32,
}

/// Fields of `struct sock`, of a socket that is or was connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct SocketFields {
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// `IPPROTO_TCP` and the like. `IPPROTO_MPTCP` needs more than a byte.
    pub protocol: u16,
    /// A state of include/net/tcp_states.h.
    pub state: u16,
    /// Its own port, host byte order.
    pub local_port: u16,
    /// Its peer's port, network byte order.
    pub remote_port: [u8; 2],
    /// Zero.
    pub reserved: u16,
    /// The device to which it is bound, or 0.
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

/// The offsets of the [`SocketFields`] in `struct sock`, in bytes. They differ between kernels. So the
/// loader reads them from the kernel's own types, and sets them before it loads the iterator.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
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

// Sizes and offsets are part of the pinned state: if you change them, change LAYOUT.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<ConnRecord>() == 24 && align_of::<ConnRecord>() == 8);
    assert!(size_of::<UdpFlow>() == 32);
    assert!(offset_of!(UdpFlow, local_port) == 24);
    assert!(size_of::<UdpFlows>() == 512);
    assert!(size_of::<SocketFields>() == 60);
    assert!(size_of::<SocketRecord>() == 96);
    assert!(size_of::<SocketOffsets>() == 48);
};
