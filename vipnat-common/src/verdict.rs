//! The answer of a decision: leave the call alone, redirect it, refuse it, or let the application retry.

use crate::abi::SlotFlags;

/// The action for a connect or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not a VIP of this app, or not on this port or protocol: leave it alone.
    Pass,
    /// Go to this backend instead.
    Redirect(Target),
    /// A VIP without backends: fail at once with `EHOSTUNREACH`.
    Unreachable,
    /// No attempt gave a stable result, and at least one saw a concurrent change: fail with `EAGAIN`.
    /// Any backend picked now might be another VIP's.
    Retry,
}

/// The destination of a [`Verdict::Redirect`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend's address, network byte order.
    pub ip: [u8; 4],
    /// The slot that named the backend.
    pub slot: u32,
    /// The backend's port, or the port of the call, host byte order.
    pub port: u16,
    /// [`SlotFlags::STRICT`] or nothing: UDP flows keep the backend even after it leaves the table.
    pub flags: SlotFlags,
}

impl Target {
    /// Whether UDP flows keep the backend even after it leaves the table.
    #[inline(always)]
    pub const fn is_strict(&self) -> bool {
        self.flags.intersects(SlotFlags::STRICT)
    }
}
