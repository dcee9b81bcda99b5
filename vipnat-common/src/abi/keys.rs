//! The key of the map `vips`: an app, its VIP, and the port and protocol for which vipnat translates.

use core::fmt;

use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// In a [`VipKey`]: any port.
pub const ANY_PORT: u16 = 0;

/// The first two bytes of every VIP: 169.254.0.0/16.
pub const VIP_RANGE: [u8; 2] = [169, 254];

/// The number of an app. No number is used twice as long as the state exists.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct AppId(pub u32);

impl AppId {
    /// No app: nothing is translated.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The protocols that a table can name, under their numbers (`IPPROTO_TCP` and the like).
#[repr(u8)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, TryFromBytes, IntoBytes, Immutable,
)]
pub enum Protocol {
    /// In a [`VipKey`]: any protocol that has connect-time hooks. iptables too reads 0 as "all"
    /// (`iptables(8)`, `-p`).
    Any = 0,
    /// TCP, and MPTCP, whose first subflow is a TCP socket.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// Any other protocol of a socket. No key has it.
    Other = 255,
}

impl Protocol {
    /// The protocol of a socket, by its number.
    #[inline(always)]
    pub const fn of_socket(number: u32) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            _ => Self::Other,
        }
    }
}

/// The key of the `vips` map. It is also the owner in each [`Slot`](super::Slot).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TryFromBytes, IntoBytes, Immutable)]
pub struct VipKey {
    /// The app, from the map `scope`: an [`AppId`].
    pub app: u32,
    /// The VIP, network byte order.
    pub vip: [u8; 4],
    /// Destination port, host byte order, or [`ANY_PORT`].
    pub port: u16,
    /// The protocol, or [`Protocol::Any`].
    pub protocol: Protocol,
    /// Zero, so that the key has no padding.
    pub reserved: u8,
}

impl VipKey {
    /// The key for one port and protocol of a VIP.
    #[inline(always)]
    pub const fn new(app: AppId, vip: [u8; 4], port: u16, protocol: Protocol) -> Self {
        Self { app: app.0, vip, port, protocol, reserved: 0 }
    }

    /// The key of the head entry, which every VIP has, limited or not.
    #[inline(always)]
    pub const fn head(app: AppId, vip: [u8; 4]) -> Self {
        Self::new(app, vip, ANY_PORT, Protocol::Any)
    }

    /// The app.
    #[inline(always)]
    pub const fn app_id(&self) -> AppId {
        AppId(self.app)
    }
}

// Sizes and offsets are part of the pinned state: if you change them, change LAYOUT.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<VipKey>() == 12);
    assert!(offset_of!(VipKey, vip) == 4);
    assert!(offset_of!(VipKey, port) == 8);
    assert!(offset_of!(VipKey, protocol) == 10);
    assert!(offset_of!(VipKey, reserved) == 11);
};
