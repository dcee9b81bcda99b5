//! Choices that are the same in each run with the same seed.

/// A deterministic choice (xorshift, Marsaglia 2003).
pub(crate) struct Choice(u64);

impl Choice {
    /// The choices of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    /// Whether an event with the chance of 1 in `count` happens.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these; `None` if there is none.
    pub(crate) fn of<T>(&mut self, all: impl IntoIterator<Item = T>) -> Option<T> {
        let mut all: Vec<_> = all.into_iter().collect();
        (!all.is_empty()).then(|| all.swap_remove(self.below(all.len())))
    }
}
