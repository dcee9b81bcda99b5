//! Map keys and values as bytes in memory order, for the user-space side.
//!
//! By hand and checked, because a pinned map can hold anything by the time it is read back, and a
//! [`Protocol`] made of an unassigned number would be undefined behaviour.

use crate::layout::{
    ANY_PROTOCOL, Cursor, Layout, Note, Protocol, Range, Scope, Slot, SocketFields, SocketNote,
    SocketOffsets, VipKey,
};

impl VipKey {
    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 12] {
        let Self { scope, vip, port, protocol, reserved } = self;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&scope.to_ne_bytes());
        bytes[4..8].copy_from_slice(&vip);
        bytes[8..10].copy_from_slice(&port.to_ne_bytes());
        bytes[10] = protocol as u8;
        bytes[11] = reserved;
        bytes
    }

    /// `None` if it has a protocol that no table can name.
    pub fn from_bytes(bytes: [u8; 12]) -> Option<Self> {
        let [s0, s1, s2, s3, v0, v1, v2, v3, p0, p1, protocol, reserved] = bytes;
        Some(Self {
            scope: u32::from_ne_bytes([s0, s1, s2, s3]),
            vip: [v0, v1, v2, v3],
            port: u16::from_ne_bytes([p0, p1]),
            protocol: match protocol {
                0 => ANY_PROTOCOL,
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                _ => return None,
            },
            reserved,
        })
    }
}

impl Range {
    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 8] {
        let Self { first, count } = self;
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&first.to_ne_bytes());
        bytes[4..].copy_from_slice(&count.to_ne_bytes());
        bytes
    }

    /// The reverse of [`Range::to_bytes`].
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { first: u32::from_ne_bytes([a, b, c, d]), count: u32::from_ne_bytes([e, f, g, h]) }
    }
}

impl Slot {
    /// A free slot.
    pub const FREE: [u8; 24] = [0; 24];

    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 24] {
        let Self { owner, ip, port, flags, cursor } = self;
        let mut bytes = [0; 24];
        bytes[..12].copy_from_slice(&owner.to_bytes());
        bytes[12..16].copy_from_slice(&ip);
        bytes[16..18].copy_from_slice(&port.to_ne_bytes());
        bytes[18..20].copy_from_slice(&flags.to_ne_bytes());
        bytes[20..].copy_from_slice(&cursor.to_ne_bytes());
        bytes
    }

    /// `None` if its owner has a protocol that no table can name.
    pub fn from_bytes(bytes: [u8; 24]) -> Option<Self> {
        let (owner, rest) = bytes.split_first_chunk()?;
        let [i0, i1, i2, i3, p0, p1, f0, f1, c0, c1, c2, c3] = *rest.first_chunk()?;
        Some(Self {
            owner: VipKey::from_bytes(*owner)?,
            ip: [i0, i1, i2, i3],
            port: u16::from_ne_bytes([p0, p1]),
            flags: u16::from_ne_bytes([f0, f1]),
            cursor: u32::from_ne_bytes([c0, c1, c2, c3]),
        })
    }
}

impl Cursor {
    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 16] {
        let Self { sent, udp_connects } = self;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&sent.to_ne_bytes());
        bytes[8..].copy_from_slice(&udp_connects.to_ne_bytes());
        bytes
    }

    /// The reverse of [`Cursor::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            sent: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            udp_connects: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }
}

impl Note {
    /// From how the kernel stores it.
    pub fn from_bytes(bytes: &[u8; 24]) -> Self {
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let two = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            scope: u32::from_ne_bytes(four(0)),
            vip: four(4),
            backend: four(8),
            vip_port: two(12),
            backend_port: two(14),
            slot: u32::from_ne_bytes(four(16)),
            stream: u32::from_ne_bytes(four(20)),
        }
    }
}

impl SocketNote {
    /// From how the iterator writes it.
    pub fn from_bytes(bytes: &[u8; 96]) -> Self {
        let (cookie, rest) = bytes.split_at(8);
        let (note, rest) = rest.split_at(24);
        let (socket, reserved) = rest.split_at(60);
        // All parts are as long as that.
        Self {
            cookie: u64::from_ne_bytes(cookie.try_into().unwrap_or_default()),
            note: note.first_chunk().map_or_else(Note::default, Note::from_bytes),
            socket: socket
                .first_chunk()
                .map_or_else(SocketFields::default, SocketFields::from_bytes),
            reserved: u32::from_ne_bytes(reserved.try_into().unwrap_or_default()),
        }
    }
}

impl SocketFields {
    fn from_bytes(bytes: &[u8; 60]) -> Self {
        let two = |at: usize| [bytes[at], bytes[at + 1]];
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let sixteen = |at: usize| {
            let mut address = [0; 16];
            address.copy_from_slice(&bytes[at..at + 16]);
            address
        };
        Self {
            family: u16::from_ne_bytes(two(0)),
            protocol: u16::from_ne_bytes(two(2)),
            state: u16::from_ne_bytes(two(4)),
            local_port: u16::from_ne_bytes(two(6)),
            remote_port: two(8),
            reserved: u16::from_ne_bytes(two(10)),
            device: u32::from_ne_bytes(four(12)),
            namespace: u32::from_ne_bytes(four(16)),
            local_v4: four(20),
            remote_v4: four(24),
            local_v6: sixteen(28),
            remote_v6: sixteen(44),
        }
    }
}

impl SocketOffsets {
    /// As the iterator reads them.
    pub fn to_bytes(self) -> [u8; 48] {
        let Self {
            family,
            protocol,
            state,
            local_port,
            remote_port,
            device,
            namespace,
            namespace_number,
            local_v4,
            remote_v4,
            local_v6,
            remote_v6,
        } = self;
        let all = [
            family,
            protocol,
            state,
            local_port,
            remote_port,
            device,
            namespace,
            namespace_number,
            local_v4,
            remote_v4,
            local_v6,
            remote_v6,
        ];
        let mut bytes = [0; 48];
        for (to, offset) in bytes.chunks_exact_mut(4).zip(all) {
            to.copy_from_slice(&offset.to_ne_bytes());
        }
        bytes
    }
}

impl Scope {
    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 8] {
        let Self { id, reserved } = self;
        Range { first: id, count: reserved }.to_bytes()
    }

    /// The reverse of [`Scope::to_bytes`].
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let Range { first, count } = Range::from_bytes(bytes);
        Self { id: first, reserved: count }
    }
}

impl Layout {
    /// As the kernel stores it.
    pub fn to_bytes(self) -> [u8; 12] {
        let Self { version, build, last_scope } = self;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&version.to_ne_bytes());
        bytes[4..8].copy_from_slice(&build);
        bytes[8..].copy_from_slice(&last_scope.to_ne_bytes());
        bytes
    }

    /// The reverse of [`Layout::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, build @ .., w, x, y, z] = bytes;
        Self {
            version: u32::from_ne_bytes([a, b, c, d]),
            build,
            last_scope: u32::from_ne_bytes([w, x, y, z]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn slots() -> impl Strategy<Value = Slot> {
        let protocol = prop_oneof![Just(ANY_PROTOCOL), Just(Protocol::Tcp), Just(Protocol::Udp),];
        let owner = (any::<u32>(), any::<[u8; 4]>(), any::<u16>(), protocol)
            .prop_map(|(scope, vip, port, protocol)| VipKey::new(scope, vip, port, protocol));
        (owner, any::<[u8; 4]>(), any::<u16>(), any::<u16>(), any::<u32>())
            .prop_map(|(owner, ip, port, flags, cursor)| Slot { owner, ip, port, flags, cursor })
    }

    proptest! {
        #[test]
        fn bytes_are_what_is_in_memory(slot in slots(), range: (u32, u32)) {
            // SAFETY: neither type has padding, see the assertions beside them.
            let memory: [u8; 24] = unsafe { core::mem::transmute(slot) };
            prop_assert_eq!(slot.to_bytes(), memory);
            prop_assert_eq!(Slot::from_bytes(memory), Some(slot));
            let range = Range { first: range.0, count: range.1 };
            // SAFETY: as above.
            let memory: [u8; 8] = unsafe { core::mem::transmute(range) };
            prop_assert_eq!(range.to_bytes(), memory);
            prop_assert_eq!(Range::from_bytes(memory), range);
            let cursor = Cursor { sent: u64::from(range.first), udp_connects: u64::MAX };
            // SAFETY: as above.
            let memory: [u8; 16] = unsafe { core::mem::transmute(cursor) };
            prop_assert_eq!(cursor.to_bytes(), memory);
            prop_assert_eq!(Cursor::from_bytes(memory), cursor);
        }

        #[test]
        fn a_note_is_what_is_in_memory(memory in vec(any::<u8>(), 96)) {
            let memory: [u8; 96] = memory.try_into().unwrap();
            // SAFETY: a SocketNote has no padding, and any bits make its numbers.
            let note: SocketNote = unsafe { core::mem::transmute(memory) };
            prop_assert_eq!(SocketNote::from_bytes(&memory), note);
            let memory: [u8; 48] = memory[..48].try_into().unwrap();
            // SAFETY: as above.
            let offsets: SocketOffsets = unsafe { core::mem::transmute(memory) };
            prop_assert_eq!(offsets.to_bytes(), memory);
        }

        #[test]
        fn any_bytes_can_be_read(bytes: [u8; 24]) {
            if let Some(slot) = Slot::from_bytes(bytes) {
                prop_assert_eq!(slot.to_bytes(), bytes);
            }
        }
    }
}
