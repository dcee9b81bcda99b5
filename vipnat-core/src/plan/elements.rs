//! A set of elements of an array map, such as the free ones.
//!
//! It has one bit for each element. A plan copies it: 13 kB for 105,000 slots.

/// The number of elements in a word.
const BITS: u32 = u64::BITS;

/// Some elements of an array map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elements {
    /// A bit is set if the element is in the set.
    words: Vec<u64>,
    capacity: u32,
}

impl Elements {
    /// No elements.
    pub(super) fn none(capacity: u32) -> Self {
        Self { words: vec![0; capacity.div_ceil(BITS) as usize], capacity }
    }

    /// All elements.
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

    /// Adds an element, which may be there.
    pub(super) fn insert(&mut self, index: u32) {
        self.words[(index / BITS) as usize] |= 1 << (index % BITS);
    }

    /// Removes an element, which may be missing.
    pub(super) fn remove(&mut self, index: u32) {
        self.words[(index / BITS) as usize] &= !(1 << (index % BITS));
    }

    /// The elements, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let next = self.find_short(from, 1)?;
            from = next + 1;
            Some(next)
        })
    }

    /// The lowest run of so many elements in a row, at or after an index.
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

    /// [`Elements::find`] for at most as many elements as a word has.
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

    /// The number of elements in a row from an index on.
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
            let mut set = Elements::all(bits.len() as u32);
            for (index, _) in (0..).zip(&bits).filter(|(_, bit)| !**bit) {
                set.remove(index);
            }
            let is_in = |index: u32| bits.get(index as usize).is_some_and(|bit| *bit);
            let lowest = (from..400).find(|first| (*first..first + count).all(is_in));
            prop_assert_eq!(set.find(from, count), lowest);
            let all: Vec<_> = (0..400).filter(|index| is_in(*index)).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), &all[..]);
            let run = |first| (first..).take_while(|index| is_in(*index)).count() as u32;
            prop_assert_eq!(set.longest(), (0..400).map(run).max().unwrap());
            let mut other = Elements::none(bits.len() as u32);
            all.into_iter().for_each(|index| other.insert(index));
            prop_assert_eq!(set, other);
        }
    }
}
