//! The values of the maps `vips`, `backends` and `cursors`: where a VIP's slots are, what each holds,
//! and how many turns were given.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, TryFromBytes};

use super::keys::{ANY_PORT, AppId, Protocol, VipKey};

/// The value of the `vips` map: where the VIP's slots are in `backends`.
///
/// It is only a hint. The kernel recycles hash elements at once, so the value that a program reads may
/// be another VIP's by then; the owner in the slot decides. Eight aligned bytes are read in one piece,
/// so first and count belong together unless the kernel copies them in smaller ones. Then the owner of
/// the chosen slot reveals a count that is too large; one that is too small picks another backend of
/// the list.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Range {
    /// Index of the first slot.
    pub first: u32,
    /// Number of slots, at least 1.
    pub count: u32,
}

/// A value of the `backends` map: one turn of a VIP's round robin.
///
/// A slot is written only while no [`Range`] points to it. When none does any more, it gets
/// [`SlotFlags::RETIRED`]; an RCU grace period later it is [`Slot::EMPTIED`], and after another one it
/// is free, which is all zeroes. The first period is for programs that found it through an entry. The
/// second is for those that have its index from a flow: without it, they could read its backend before
/// and its flags after it is used again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable)]
pub struct Slot {
    /// The VIP this slot belongs to. A program that looked up any other must not use it.
    pub owner: VipKey,
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The backend's port, host byte order; 0 keeps the port the application asked for.
    pub port: u16,
    /// [`SlotFlags`].
    pub flags: u16,
    /// Index of the VIP's counter in `cursors`, the same in all its slots.
    pub cursor: u32,
}

bitflags! {
    /// The flags of a [`Slot`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SlotFlags: u16 {
        /// The VIP is translated for one port or protocol only, and this is the slot of its head
        /// entry, which no connection uses: look up the limited keys.
        const LIMITED = 1;
        /// The VIP is known but has no backend: refuse.
        const UNREACHABLE = 2;
        /// Chance decides among the slots, not the round robin. The same in all slots of a list.
        const RANDOM = 4;
        /// UDP flows keep their backend when it leaves the table. The same in all slots of a list.
        const STRICT = 8;
        /// No entry leads here any more: the list was replaced, or its VIP was removed. The slot
        /// keeps its backend for programs that found it before; UDP flows no longer use it.
        const RETIRED = 16;
    }
}

impl Slot {
    /// What is left of a retired slot when no program that was led to it can be using it.
    pub const EMPTIED: Self = Self {
        owner: VipKey::new(AppId::NONE, [0; 4], ANY_PORT, Protocol::Any),
        ip: [0; 4],
        port: 0,
        flags: SlotFlags::RETIRED.bits(),
        cursor: 0,
    };

    /// The flags; bits that this build does not know stay.
    #[inline(always)]
    pub const fn flags(&self) -> SlotFlags {
        SlotFlags::from_bits_retain(self.flags)
    }

    /// Whether it has any of these flags.
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

/// The value of the `cursors` map: how many turns a VIP has given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Cursor {
    /// To sockets that send at once: connections, and UDP flows of sockets without a connect.
    pub turns: u64,
    /// To UDP sockets that connect, which may never send: resolvers connect them to each address of a
    /// name, only to sort the addresses. They take turns among themselves, so that they do not shift
    /// the turns of the others.
    pub udp_connects: u64,
}

impl Cursor {
    /// Turns of both kinds.
    pub const fn total(&self) -> u64 {
        self.turns.wrapping_add(self.udp_connects)
    }
}

// Sizes and offsets are part of the pinned state: a change here is a new LAYOUT.
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
