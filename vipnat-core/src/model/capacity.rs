//! The sizes of the maps: those that a table needs, with some room.

use vipnat_common::abi::capacity;

use super::full::MapFull;

/// A number of elements for each of the maps of entries, slots and cursors: their size, or the need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Entries; a VIP that is limited to a port or protocol has two.
    pub vips: u32,
    /// Slots.
    pub backends: u32,
    /// Cursors, one for each VIP.
    pub cursors: u32,
}

impl Capacity {
    /// The sizes of the smallest maps.
    pub const MIN: Self =
        Self { vips: capacity::VIPS, backends: capacity::BACKENDS, cursors: capacity::CURSORS };

    /// The sizes of the largest maps.
    const MAX: Self = Self {
        vips: capacity::VIPS * capacity::MOST,
        backends: capacity::BACKENDS * capacity::MOST,
        cursors: capacity::CURSORS * capacity::MOST,
    };

    /// The larger of both, for each map.
    pub fn at_least(self, other: Self) -> Self {
        let Self { vips, backends, cursors } = other;
        Self {
            vips: self.vips.max(vips),
            backends: self.backends.max(backends),
            cursors: self.cursors.max(cursors),
        }
    }

    /// The sum of both, for each map.
    pub fn and(self, other: Self) -> Self {
        let Self { vips, backends, cursors } = other;
        Self {
            vips: self.vips.saturating_add(vips),
            backends: self.backends.saturating_add(backends),
            cursors: self.cursors.saturating_add(cursors),
        }
    }

    /// The sizes of maps for this need: an eighth more entries and cursors, and three quarters more slots.
    /// Slots need more room, since a new list is written while the old one is still in use.
    pub fn with_room(self) -> Self {
        let Self { vips, backends, cursors } = self;
        let more = |needed: u32, more: u32, min: u32, max: u32| {
            needed.saturating_add(more).clamp(min, max)
        };
        let room = |needed: u32, min: u32, max: u32| more(needed, needed / 8, min, max);
        let Self { vips: min_vips, backends: min_backends, cursors: min_cursors } = Self::MIN;
        // A hash map has a power of two of buckets; one element more would double its memory.
        let buckets = vips.checked_next_power_of_two().unwrap_or(u32::MAX);
        Self {
            vips: room(vips, min_vips, Self::MAX.vips).min(buckets.max(min_vips)),
            backends: more(backends, backends / 4 * 3, min_backends, Self::MAX.backends),
            cursors: room(cursors, min_cursors, Self::MAX.cursors),
        }
    }

    /// Checks that the largest maps can hold this.
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
