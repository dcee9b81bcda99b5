//! Keys and values as bytes in memory order, for user space.
//!
//! A pinned map can hold any bytes when vipnat reads it back. `zerocopy` refuses bytes that are no
//! [`Protocol`] instead of making an invalid one.

use zerocopy::{transmute, try_transmute};

use super::{
    keys::{Protocol, VipKey},
    slots::{Cursor, Range, Slot},
    socket::{ConnRecord, SocketOffsets, SocketRecord},
    state::{Layout, Scope},
};

/// For types without invalid values: any bytes of their size are valid.
macro_rules! plain {
    ($($type:ident: $size:literal),+) => {$(
        impl $type {
            /// The bytes that the kernel stores.
            pub fn to_bytes(self) -> [u8; $size] {
                transmute!(self)
            }

            #[doc = concat!("The reverse of [`", stringify!($type), "::to_bytes`].")]
            pub fn from_bytes(bytes: [u8; $size]) -> Self {
                transmute!(bytes)
            }
        }
    )+};
}

plain!(Range: 8, Cursor: 16, ConnRecord: 24, SocketRecord: 96, SocketOffsets: 48, Scope: 8, Layout: 12);

impl VipKey {
    /// The bytes that the kernel stores.
    pub fn to_bytes(self) -> [u8; 12] {
        transmute!(self)
    }

    /// `None` if its protocol is none that a table can name.
    pub fn from_bytes(bytes: [u8; 12]) -> Option<Self> {
        let key: Self = try_transmute!(bytes).ok()?;
        (key.protocol != Protocol::Other).then_some(key)
    }
}

impl Slot {
    /// A free slot.
    pub const FREE: [u8; 24] = [0; 24];

    /// The bytes that the kernel stores.
    pub fn to_bytes(self) -> [u8; 24] {
        transmute!(self)
    }

    /// `None` if the protocol of its owner is none that a table can name.
    pub fn from_bytes(bytes: [u8; 24]) -> Option<Self> {
        let slot: Self = try_transmute!(bytes).ok()?;
        (slot.owner.protocol != Protocol::Other).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_in_the_order_of_the_fields() {
        let owner = VipKey {
            app: 1,
            vip: [169, 254, 37, 209],
            port: 53,
            protocol: Protocol::Udp,
            reserved: 0,
        };
        let slot = Slot { owner, ip: [240, 0, 0, 1], port: 5353, flags: 8, cursor: 7 };
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&1u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&[169, 254, 37, 209]);
        bytes[8..10].copy_from_slice(&53u16.to_ne_bytes());
        bytes[10] = 17;
        bytes[12..16].copy_from_slice(&[240, 0, 0, 1]);
        bytes[16..18].copy_from_slice(&5353u16.to_ne_bytes());
        bytes[18..20].copy_from_slice(&8u16.to_ne_bytes());
        bytes[20..].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(slot.to_bytes(), bytes);
    }

    #[test]
    fn a_protocol_that_no_table_names_is_refused() {
        for number in 0..=u8::MAX {
            let mut bytes = [0; 24];
            bytes[10] = number;
            let known = [0, 6, 17].contains(&number);
            assert_eq!(Slot::from_bytes(bytes).is_some(), known, "{number}");
            assert_eq!(
                VipKey::from_bytes(*bytes.first_chunk().unwrap()).is_some(),
                known,
                "{number}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: [u8; 24]) {
            if let Some(slot) = Slot::from_bytes(bytes) {
                prop_assert_eq!(slot.to_bytes(), bytes);
            }
            prop_assert_eq!(ConnRecord::from_bytes(bytes).to_bytes(), bytes);
        }
    }
}
