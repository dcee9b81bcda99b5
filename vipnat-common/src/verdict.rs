//! The answer of a decision: leave the call alone, redirect it, or refuse it.

use crate::abi::SlotFlags;

/// What to do with a connect or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a VIP of this app, or not on this port or protocol: leave it alone.
    Pass,
    /// Go there instead.
    Redirect(Target),
    /// A VIP without backends: fail at once with `EHOSTUNREACH`.
    Unreachable,
    /// No attempt gave a stable result, and at least one saw a concurrent change: fail with `EAGAIN`.
    /// Any backend picked now might be another VIP's.
    Retry,
}

/// Where a [`Verdict::Redirect`] goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The slot that named it.
    pub slot: u32,
    /// The backend's port, or the one asked for, host byte order.
    pub port: u16,
    /// [`SlotFlags::STRICT`] or nothing: UDP flows stay there even when the table no longer has it.
    pub flags: SlotFlags,
}

impl Target {
    /// Whether UDP flows stay there even when the table no longer has it.
    #[inline(always)]
    pub const fn is_strict(&self) -> bool {
        self.flags.intersects(SlotFlags::STRICT)
    }
}
