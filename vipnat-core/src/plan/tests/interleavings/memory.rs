//! The maps in memory, and the smallest changes that a reader can see.

use rustc_hash::FxHashMap;
use vipnat_common::{AppId, Range, Slot, VipKey};

use crate::model::{Capacity, Snapshot};

/// The number of slots; large enough for all tables.
const SLOTS: usize = 16;
pub(super) const CURSORS: usize = 4;

/// A VIP of an app.
pub(super) type Name = (AppId, [u8; 4]);

/// One piece of a slot. The copy of a slot is made in such pieces; no field is in two of them.
pub(super) type Word = [u8; 4];
pub(super) const WORDS: usize = 6;

/// The content of the maps. All keys share one bucket of the hash, so that each write disturbs each lookup.
#[derive(Clone)]
pub(super) struct Memory {
    /// The elements of `vips`, also the free ones: a reader may hold any of them.
    pub(super) elements: Vec<(VipKey, Range)>,
    /// The elements that a lookup visits, in this order.
    pub(super) chain: Vec<usize>,
    /// The elements to use next; the writer takes the last one first.
    pub(super) free: Vec<usize>,
    slots: [[Word; WORDS]; SLOTS],
    /// For each cursor, the VIP whose slots name it, or named it last.
    pub(super) named_by: [Option<Name>; CURSORS],
}

impl Memory {
    pub(super) fn new() -> Self {
        let slots = [[[0; 4]; WORDS]; SLOTS];
        Self { elements: vec![], chain: vec![], free: vec![], slots, named_by: [None; CURSORS] }
    }

    pub(super) fn word(&self, index: u32, word: usize) -> Word {
        self.slots.get(index as usize).map_or([0; 4], |slot| slot[word])
    }

    pub(super) fn linked(&self, key: &VipKey) -> Option<usize> {
        self.chain.iter().copied().find(|element| self.elements[*element].0 == *key)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let entries: FxHashMap<_, _> = self.chain.iter().map(|i| self.elements[*i]).collect();
        assert_eq!(entries.len(), self.chain.len(), "an entry is there twice");
        let slots = self.slots.iter().map(|words| words.concat().try_into().unwrap());
        let slot = |bytes| (bytes != Slot::FREE).then(|| Slot::from_bytes(bytes).unwrap());
        let slots = slots.map(slot).collect();
        let capacity = Capacity { vips: u32::MAX, backends: SLOTS as u32, cursors: CURSORS as u32 };
        Snapshot { entries, slots, capacity }
    }

    pub(super) fn take(&mut self, atom: Atom) {
        match atom {
            Atom::Key(element, key) => self.elements[element].0 = key,
            Atom::First(element, first) => self.elements[element].1.first = first,
            Atom::Count(element, count) => self.elements[element].1.count = count,
            Atom::Range(element, range) => self.elements[element].1 = range,
            Atom::Link(element) => self.chain.insert(0, element),
            Atom::Unlink(element) => self.chain.retain(|other| *other != element),
            Atom::Word(index, word, value) => self.slots[index as usize][word] = value,
            Atom::New(cursor, name) => self.named_by[cursor as usize] = Some(name),
            Atom::WaitBegins | Atom::WaitEnds | Atom::Reset(_) | Atom::Attach => {}
        }
    }
}

/// A change of which no reader can see half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// Fills an element that no lookup visits any more, for its next use.
    Key(usize, VipKey),
    Range(usize, Range),
    /// [`Atom::Range`] in two pieces.
    First(usize, u32),
    Count(usize, u32),
    Link(usize),
    Unlink(usize),
    /// Writes a piece of a slot.
    Word(u32, usize, Word),
    /// A grace period begins. It does not wait for readers that begin later.
    WaitBegins,
    /// The grace period ends: all readers that began before [`Atom::WaitBegins`] have finished.
    WaitEnds,
    Reset(u32),
    /// The maps stay the same. The readers' cgroup gets another app.
    Attach,
    /// The maps stay the same. From here on, a cursor belongs to a new VIP.
    New(u32, Name),
}
