//! How large the maps are: as the table needs, with some room.

use vipnat_common::layout::capacity;

use super::{
    desired::Desired,
    error::{Error, Result},
    rule::Rule,
    snapshot::Snapshot,
};

/// How many elements the maps of entries, slots and cursors hold, or how many of them are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) vips: u32,
    pub(super) backends: u32,
    pub(super) cursors: u32,
}

impl Capacity {
    /// The smallest maps there are.
    pub(super) const MIN: Self =
        Self { vips: capacity::VIPS, backends: capacity::BACKENDS, cursors: capacity::CURSORS };

    /// The largest ones.
    const MAX: Self = Self {
        vips: capacity::VIPS * capacity::MOST,
        backends: capacity::BACKENDS * capacity::MOST,
        cursors: capacity::CURSORS * capacity::MOST,
    };

    /// What it takes to do what is desired and, until that is done, what is done now.
    pub(super) fn needed(desired: &Desired, now: Option<&Snapshot>) -> Self {
        let rules = desired.apps.values().flat_map(|app| &app.rules);
        let mut needed = now.map_or(Self { vips: 0, backends: 0, cursors: 0 }, Snapshot::in_use);
        for Rule { turns, .. } in rules.clone() {
            needed.backends = needed.backends.saturating_add(turns.len().max(1) as u32);
        }
        // One that is limited has a head as well, which has a slot.
        let limited = rules.clone().filter(|rule| rule.limited()).count() as u32;
        let rules = rules.count() as u32;
        Self {
            vips: needed.vips.saturating_add(rules + limited),
            backends: needed.backends.saturating_add(limited),
            cursors: needed.cursors.saturating_add(rules),
        }
    }

    /// Maps for that, with room for what comes.
    pub(super) fn with_room(self) -> Self {
        let Self { vips, backends, cursors } = self;
        let room =
            |needed: u32, min: u32, max: u32| needed.saturating_add(needed / 8).clamp(min, max);
        let Self { vips: min_vips, backends: min_backends, cursors: min_cursors } = Self::MIN;
        // A hash has as many buckets as the next power of two; past that, memory doubles.
        let buckets = vips.checked_next_power_of_two().unwrap_or(u32::MAX);
        Self {
            vips: room(vips, min_vips, Self::MAX.vips).min(buckets.max(min_vips)),
            backends: room(backends, min_backends, Self::MAX.backends),
            cursors: room(cursors, min_cursors, Self::MAX.cursors),
        }
    }

    /// Whether the largest maps can hold so much.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]
    pub(super) fn check(self) -> Result<()> {
        let Self { vips, backends, cursors } = self;
        let maps = [
            ("vips", vips, Self::MAX.vips),
            ("backends", backends, Self::MAX.backends),
            ("cursors", cursors, Self::MAX.cursors),
        ];
        let beyond = maps.into_iter().find(|(_, needed, most)| needed > most);
        beyond.map_or(Ok(()), |(map, needed, most)| {
            let (needed, free) = (needed as usize, most as usize);
            Err(Error::Full { map, needed, free, capacity: most })
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
        assert_eq!(room(5000), Capacity { vips: 5625, backends: 5625, cursors: 5625 });
        assert_eq!(room(60_000), Capacity { vips: 65_536, backends: 67_500, cursors: 67_500 });
        assert_eq!(room(65_536).vips, 65_536);
        assert_eq!(room(65_537).vips, 73_729);
        assert_eq!(room(u32::MAX), Capacity::MAX);
        assert!(Capacity::MAX.check().is_ok());
        let beyond = Capacity { backends: Capacity::MAX.backends + 1, ..Capacity::MIN };
        assert!(beyond.check().unwrap_err().to_string().contains("map `backends`"));
    }
}
