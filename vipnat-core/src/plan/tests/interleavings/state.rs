//! The states that a schedule goes through.

use std::hash::{Hash, Hasher};

use super::{history::Current, memory::CURSORS};

/// The positions of writer and readers. The writer's moment gives the maps, but not the cursors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The number of steps that the writer has taken.
    pub(super) moment: usize,
    /// The reader that runs, or runs next.
    pub(super) reader: usize,
    pub(super) progress: Progress,
    /// The cursors, and the number of turns that the VIP of each has given.
    pub(super) cursors: [u8; CURSORS],
    pub(super) given: [u8; CURSORS],
}

impl Hash for State {
    /// Hashes the fields that differ between most states. Hashing all of them takes longer than all the rest.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let at = match self.progress.at {
            At::Start => 0,
            At::LooksUp { met, .. } => met.into(),
            At::Holds(element) => element,
            At::Reads(words, _) => words,
        };
        hasher.write_usize(at << 48 ^ self.moment << 32 ^ self.progress.node as usize);
    }
}

/// How far a reader is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) began: Option<Began>,
    /// The place in its tree.
    pub(super) node: u32,
    pub(super) at: At,
    pub(super) attempt: Attempt,
    /// The number of looks that missed an entry which was there all the time.
    pub(super) misses: u32,
    /// There was a quiet attempt: it had no result although the writer took no step.
    pub(super) quiet: bool,
}

/// The moment when a reader began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Began {
    pub(super) current: Current,
    /// The step that the writer can't take before this reader has finished.
    pub(super) barrier: usize,
    /// The writer has taken no step since then.
    pub(super) alone: bool,
}

/// Where a reader is within an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum At {
    #[default]
    Start,
    /// It looks a key up.
    LooksUp {
        /// The elements that were in the bucket at any time since it began, one bit each.
        met: u16,
        /// The bucket has changed since.
        changed: bool,
        /// There was a moment without the key.
        absent: bool,
    },
    /// It has found an element, and not yet read it.
    Holds(usize),
    /// It has read some words of a slot.
    Reads(usize, [u8; 24]),
}

/// An attempt is all accesses from one lookup of the head to the next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The writer has taken a step since it began.
    pub(super) disturbed: bool,
    /// It missed an entry that was there all the time.
    pub(super) missed: bool,
    /// Its last lookup found nothing: no head, or no limited entry.
    pub(super) empty: bool,
}
