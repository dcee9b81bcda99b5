//! A set of the free elements of an array map.
//!
//! It has one bit for each element. A plan copies it: with 105,000 slots, it has 13 kB.

/// The number of elements in a word.
const BITS: u32 = u64::BITS;

/// The free elements of an array map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FreeElements {
    /// A bit is set if the element is free.
    words: Vec<u64>,
    capacity: u32,
}

impl FreeElements {
    /// All elements are in use.
    pub(super) fn none(capacity: u32) -> Self {
        Self { words: vec![0; capacity.div_ceil(BITS) as usize], capacity }
    }

    /// All elements are free.
    pub(super) fn all(capacity: u32) -> Self {
        let mut all = Self::none(capacity);
        all.words.fill(u64::MAX);
        if let Some(last) = all.words.last_mut().filter(|_| !capacity.is_multiple_of(BITS)) {
            *last = (1 << (capacity % BITS)) - 1;
        }
        all
    }

    /// The number of elements of the map.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Makes an element free.
    pub(super) fn insert(&mut self, index: u32) {
        self.words[(index / BITS) as usize] |= 1 << (index % BITS);
    }

    /// Takes an element.
    pub(super) fn remove(&mut self, index: u32) {
        self.words[(index / BITS) as usize] &= !(1 << (index % BITS));
    }

    /// The lowest run of so many free elements at or after an index.
    pub(super) fn find(&self, mut from: u32, count: u32) -> Option<u32> {
        loop {
            let first = self.find_short(from, count.min(BITS))?;
            let length = if count > BITS { self.run(first) } else { count };
            if length >= count {
                return Some(first);
            }
            from = first + length;
        }
    }

    /// The length of the longest run.
    pub(super) fn longest(&self) -> u32 {
        let (mut from, mut longest) = (0, 0);
        while let Some(first) = self.find_short(from, 1) {
            let length = self.run(first);
            longest = longest.max(length);
            from = first + length;
        }
        longest
    }

    /// [`FreeElements::find`] for at most as many elements as a word has.
    fn find_short(&self, from: u32, count: u32) -> Option<u32> {
        let begin = (from / BITS) as usize;
        let word = |place: usize| self.words.get(place).copied().unwrap_or(0);
        (begin..self.words.len()).find_map(|place| {
            let first = if place == begin { u64::MAX << (from % BITS) } else { u64::MAX };
            let mut bits = u128::from(word(place) & first) | u128::from(word(place + 1)) << BITS;
            // A bit stays if it begins a run of `length` elements.
            let mut length = 1;
            while length < count && bits != 0 {
                let more = length.min(count - length);
                bits &= bits >> more;
                length += more;
            }
            let bits = bits as u64;
            (bits != 0).then(|| place as u32 * BITS + bits.trailing_zeros())
        })
    }

    /// The number of free elements from an index to the next one in use.
    fn run(&self, first: u32) -> u32 {
        let (mut length, mut place) = (0, (first / BITS) as usize);
        let mut offset = first % BITS;
        loop {
            let word = self.words.get(place).copied().unwrap_or(0);
            let ones = (word >> offset).trailing_ones();
            length += ones;
            if ones < BITS - offset {
                return length;
            }
            (place, offset) = (place + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lowest_run_is_found(
            bits in proptest::collection::vec(proptest::bool::weighted(0.9), 0..400),
            from in 0..400u32, count in 1..200u32,
        ) {
            let mut free = FreeElements::all(bits.len() as u32);
            for (index, _) in (0..).zip(&bits).filter(|(_, bit)| !**bit) {
                free.remove(index);
            }
            let is_free = |index: u32| bits.get(index as usize).is_some_and(|bit| *bit);
            let lowest = (from..400).find(|first| (*first..first + count).all(is_free));
            prop_assert_eq!(free.find(from, count), lowest);
            let run = |first| (first..).take_while(|index| is_free(*index)).count() as u32;
            prop_assert_eq!(free.longest(), (0..400).map(run).max().unwrap());
            let mut other = FreeElements::none(bits.len() as u32);
            (0..bits.len() as u32).filter(|index| is_free(*index)).for_each(|i| other.insert(i));
            prop_assert_eq!(free, other);
        }
    }
}
