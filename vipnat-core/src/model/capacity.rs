//! How large the maps are: as the table needs, with some room.

use vipnat_common::abi::capacity;

use super::full::MapFull;

/// How many elements the maps of entries, slots and cursors hold, or how many of them are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Entries; a VIP that is limited has two.
    pub vips: u32,
    /// Slots.
    pub backends: u32,
    /// Cursors, one for each VIP.
    pub cursors: u32,
}

impl Capacity {
    /// The smallest maps there are.
    pub const MIN: Self =
        Self { vips: capacity::VIPS, backends: capacity::BACKENDS, cursors: capacity::CURSORS };

    /// The largest ones.
    const MAX: Self = Self {
        vips: capacity::VIPS * capacity::MOST,
        backends: capacity::BACKENDS * capacity::MOST,
        cursors: capacity::CURSORS * capacity::MOST,
    };

    /// As much as this and as another one.
    pub fn at_least(self, other: Self) -> Self {
        let Self { vips, backends, cursors } = other;
        Self {
            vips: self.vips.max(vips),
            backends: self.backends.max(backends),
            cursors: self.cursors.max(cursors),
        }
    }

    /// As much as this and another one together.
    pub fn and(self, other: Self) -> Self {
        let Self { vips, backends, cursors } = other;
        Self {
            vips: self.vips.saturating_add(vips),
            backends: self.backends.saturating_add(backends),
            cursors: self.cursors.saturating_add(cursors),
        }
    }

    /// Maps for that, with room for what comes: an eighth more, and of slots three quarters, since a list
    /// that is replaced is there beside the new one.
    pub fn with_room(self) -> Self {
        let Self { vips, backends, cursors } = self;
        let more = |needed: u32, more: u32, min: u32, max: u32| {
            needed.saturating_add(more).clamp(min, max)
        };
        let room = |needed: u32, min: u32, max: u32| more(needed, needed / 8, min, max);
        let Self { vips: min_vips, backends: min_backends, cursors: min_cursors } = Self::MIN;
        // A hash has as many buckets as the next power of two; past that, memory doubles.
        let buckets = vips.checked_next_power_of_two().unwrap_or(u32::MAX);
        Self {
            vips: room(vips, min_vips, Self::MAX.vips).min(buckets.max(min_vips)),
            backends: more(backends, backends / 4 * 3, min_backends, Self::MAX.backends),
            cursors: room(cursors, min_cursors, Self::MAX.cursors),
        }
    }

    /// Whether the largest maps can hold so much.
    ///
    /// # Errors
    ///
    /// [`MapFull`], with the first map that can't.
    pub fn check(self) -> Result<(), MapFull> {
        let Self { vips, backends, cursors } = self;
        let maps = [
            ("vips", vips, Self::MAX.vips),
            ("backends", backends, Self::MAX.backends),
            ("cursors", cursors, Self::MAX.cursors),
        ];
        let beyond = maps.into_iter().find(|(_, needed, most)| needed > most);
        beyond.map_or(Ok(()), |(map, needed, limit)| {
            Err(MapFull { map, needed: needed as usize, free: None, limit })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_but_not_for_a_second_table_of_buckets() {
        let room = |vips| Capacity { vips, backends: vips, cursors: vips }.with_room();
        assert_eq!(room(0), Capacity::MIN);
        assert_eq!(room(5000), Capacity { vips: 5625, backends: 8750, cursors: 5625 });
        assert_eq!(room(60_000), Capacity { vips: 65_536, backends: 105_000, cursors: 67_500 });
        assert_eq!(room(65_536).vips, 65_536);
        assert_eq!(room(65_537).vips, 73_729);
        assert_eq!(room(u32::MAX), Capacity::MAX);
        assert!(Capacity::MAX.check().is_ok());
        let beyond = Capacity { backends: Capacity::MAX.backends + 1, ..Capacity::MIN };
        let error = beyond.check().unwrap_err().to_string();
        let (needed, limit) = (beyond.backends, Capacity::MAX.backends);
        assert!(
            error.starts_with(&format!(
                "map `backends` is full: needed {needed} slots, limit {limit};"
            )),
            "{error}"
        );
    }
}
