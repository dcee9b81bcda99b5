//! The values of the maps `vips`, `backends` and `cursors`: the place of a VIP's slots, the content of
//! each slot, and the number of turns.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, TryFromBytes};

use super::keys::{ANY_PORT, AppId, Protocol, VipKey};

/// The value of the `vips` map: the place of the VIP's slots in `backends`.
///
/// It is only a hint. The kernel recycles hash elements at once, so a program may read the value of
/// another VIP; the owner in the slot decides. Programs read eight aligned bytes in one piece, so first and
/// count belong together, unless the kernel copies them in smaller pieces. Then the count may be wrong. If
/// it is too large, the owner of the chosen slot reveals it. If it is too small, it picks another backend
/// of the list.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Range {
    /// Index of the first slot.
    pub first: u32,
    /// Number of slots, at least 1.
    pub count: u32,
}

/// A value of the `backends` map: one turn in a VIP's round.
///
/// vipnat writes a slot only while no [`Range`] points to it. When the last one is gone, the slot gets
/// [`SlotFlags::RETIRED`]. It is [`Slot::EMPTIED`] one RCU grace period later, and free, which is all
/// zeroes, after another one. The first period is for programs that found the slot through an entry. The
/// second is for programs that have its index from a flow. Without it, they could read the backend before
/// the slot is used again, and the flags after that.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable)]
pub struct Slot {
    /// The VIP to which this slot belongs. A program that looked up another VIP must not use it.
    pub owner: VipKey,
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The backend's port, host byte order; 0 keeps the port of the call.
    pub port: u16,
    /// [`SlotFlags`].
    pub flags: u16,
    /// Index of the VIP's cursor in `cursors`, the same in all its slots.
    pub cursor: u32,
}

bitflags! {
    /// The flags of a [`Slot`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SlotFlags: u16 {
        /// The VIP is limited to one port or protocol. This is the slot of its head entry, which no
        /// connection uses: look up the limited entries.
        const LIMITED = 1;
        /// The VIP is known but has no backend: refuse.
        const UNREACHABLE = 2;
        /// Each turn takes a random slot, instead of the next one. The same in all slots of a list.
        const RANDOM = 4;
        /// UDP flows keep their backend when it leaves the table. The same in all slots of a list.
        const STRICT = 8;
        /// No entry points here any more: the list was replaced, or its VIP was removed. The slot
        /// keeps its backend for programs that found it before. UDP flows no longer use it.
        const RETIRED = 16;
    }
}

impl Slot {
    /// A retired slot, one grace period later: no program that found it through an entry still uses it.
    pub const EMPTIED: Self = Self {
        owner: VipKey::new(AppId::NONE, [0; 4], ANY_PORT, Protocol::Any),
        ip: [0; 4],
        port: 0,
        flags: SlotFlags::RETIRED.bits(),
        cursor: 0,
    };

    /// The flags, also those that this build does not know.
    #[inline(always)]
    pub const fn flags(&self) -> SlotFlags {
        SlotFlags::from_bits_retain(self.flags)
    }

    /// Whether it has at least one of these flags.
    #[inline(always)]
    pub const fn has(&self, flags: SlotFlags) -> bool {
        self.flags().intersects(flags)
    }

    /// The same slot, retired.
    #[inline(always)]
    pub const fn retired(self) -> Self {
        Self { flags: self.flags | SlotFlags::RETIRED.bits(), ..self }
    }
}

/// The value of the `cursors` map: the number of turns that a VIP has given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Cursor {
    /// Turns of sockets that send at once: connections, and UDP flows of sockets without a connect.
    pub turns: u64,
    /// Turns of UDP sockets that connect, and may never send. Resolvers connect such sockets to each address
    /// of a name, only to sort the addresses. The separate count keeps them from shifting the turns of
    /// the others.
    pub udp_connects: u64,
}

impl Cursor {
    /// Turns of both kinds.
    pub const fn total(&self) -> u64 {
        self.turns.wrapping_add(self.udp_connects)
    }
}

// Sizes and offsets are part of the pinned state: if you change them, change LAYOUT.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Range>() == 8 && align_of::<Range>() == 8);
    assert!(size_of::<Slot>() == 24);
    assert!(offset_of!(Slot, ip) == 12);
    assert!(offset_of!(Slot, port) == 16);
    assert!(offset_of!(Slot, flags) == 18);
    assert!(offset_of!(Slot, cursor) == 20);
    assert!(size_of::<Cursor>() == 16);
    assert!(offset_of!(Cursor, udp_connects) == 8);
};
