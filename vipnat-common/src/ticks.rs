//! Coarse time in 32 bits, for the age of UDP flows.

/// A point in time: CLOCK_MONOTONIC in units of 2^26 ns (67 ms). Two of them compare correctly if they are
/// less than four and a half years apart, half of the time after which the number wraps.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks(pub u32);

impl Ticks {
    /// One tick is 2 to the power of this number, in nanoseconds.
    pub(crate) const SHIFT: u32 = 26;

    /// From CLOCK_MONOTONIC in nanoseconds.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// The first tick after this number of seconds.
    #[inline(always)]
    pub(crate) const fn plus(self, seconds: u32) -> u32 {
        let ticks = (seconds as u64 * 1_000_000_000) >> Self::SHIFT;
        self.0.wrapping_add(ticks as u32 + 1)
    }

    /// Whether a tick is in the future.
    #[inline(always)]
    pub(crate) const fn is_before(self, tick: u32) -> bool {
        self.reached(tick) == 0
    }

    /// 1 when a tick has come, 0 before.
    #[inline(always)]
    pub(crate) const fn reached(self, tick: u32) -> u32 {
        !self.0.wrapping_sub(tick) >> 31
    }
}
