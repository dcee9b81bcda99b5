//! The writer: maps in memory on which vipnat's executor runs, in the smallest steps that a reader can see.

use std::collections::BTreeSet;

use vipnat_common::{Range, Slot, VipKey};

use super::{
    memory::{Atom, Memory},
    protocol::Protocol,
};
use crate::{
    model::Snapshot,
    plan::{MapOps, Step, execute},
};

/// Records each write, and the maps before each atom and after the last one.
pub(super) struct Writer {
    pub(super) atoms: Vec<Atom>,
    pub(super) moments: Vec<Memory>,
    pub(super) protocol: Protocol,
    /// The number of elements written since the last [`Writer::begin`].
    pub(super) written: usize,
    /// The number of written elements after which the writer crashes.
    crash: Option<usize>,
    /// The maps before the steps that are running.
    before: Snapshot,
    /// The cursors that these steps gave to new VIPs.
    new_cursors: BTreeSet<u32>,
}

/// The writer ends before its next write.
#[derive(Debug)]
pub(super) struct Crash;

impl Writer {
    /// A writer of empty maps.
    pub(super) fn new(protocol: Protocol) -> Self {
        let memory = Memory::new();
        Self {
            atoms: vec![],
            before: memory.snapshot(),
            moments: vec![memory],
            protocol,
            written: 0,
            crash: None,
            new_cursors: BTreeSet::new(),
        }
    }

    /// A new command begins. It crashes after this number of elements; `None`: it does not crash.
    pub(super) fn begin(&mut self, crash: Option<usize>) {
        (self.written, self.crash) = (0, crash);
    }

    /// A grace period begins, during which the writer goes on.
    pub(super) fn begin_wait(&mut self) -> Result<(), Crash> {
        self.element()?;
        self.atom(Atom::WaitBegins);
        Ok(())
    }

    /// The grace period that began last is over.
    pub(super) fn end_wait(&mut self) {
        self.atom(Atom::WaitEnds);
    }

    /// Carries steps out, in the order of the protocol.
    pub(super) fn run(&mut self, steps: Vec<Step<'_>>) -> Result<(), Crash> {
        self.before = self.now().snapshot();
        self.new_cursors.clear();
        execute(&self.protocol.arrange(steps), self)
    }

    /// A cgroup is attached and switched to its new app.
    pub(super) fn attach(&mut self) {
        self.atom(Atom::Attach);
    }

    /// The maps as they are now.
    pub(super) fn now(&self) -> &Memory {
        self.moments.last().unwrap()
    }

    /// Counts the next element, unless the writer crashes before it.
    fn element(&mut self) -> Result<(), Crash> {
        if self.crash == Some(self.written) {
            return Err(Crash);
        }
        self.written += 1;
        Ok(())
    }

    /// An update of an array: a plain copy. A word that keeps its value is no change for any reader.
    fn slot(&mut self, index: u32, bytes: [u8; 24]) -> Result<(), Crash> {
        self.element()?;
        let mut words: Vec<_> =
            bytes.chunks(4).map(|word| word.try_into().unwrap()).enumerate().collect();
        if self.protocol == Protocol::Backwards {
            words.reverse();
        }
        for (word, value) in words {
            if self.now().word(index, word) != value {
                self.atom(Atom::Word(index, word, value));
            }
        }
        Ok(())
    }

    /// An update of a hash, in the order of `htab_map_update_elem`.
    fn entry(&mut self, key: VipKey, range: Range) -> Result<(), Crash> {
        self.element()?;
        let old = self.now().linked(&key);
        let memory = self.moments.last_mut().unwrap();
        let new = memory.free.pop().unwrap_or(memory.elements.len());
        if new == memory.elements.len() {
            // Fresh memory; no reader can have it.
            memory.elements.push((key, range));
        } else {
            self.atom(Atom::Key(new, key));
            if self.protocol == Protocol::TornRanges {
                self.atom(Atom::First(new, range.first));
                self.atom(Atom::Count(new, range.count));
            } else {
                self.atom(Atom::Range(new, range));
            }
        }
        self.atom(Atom::Link(new));
        if let Some(old) = old {
            self.unlink(old);
        }
        Ok(())
    }

    fn unlink(&mut self, element: usize) {
        self.atom(Atom::Unlink(element));
        self.moments.last_mut().unwrap().free.push(element);
    }

    fn atom(&mut self, atom: Atom) {
        let mut memory = self.now().clone();
        memory.take(atom);
        self.atoms.push(atom);
        self.moments.push(memory);
    }
}

impl MapOps for Writer {
    type Error = Crash;

    fn write_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Crash> {
        slots.iter().try_for_each(|(index, slot)| {
            let name = (slot.owner.app_id(), slot.owner.vip);
            let known = self.before.cursor_of(name.0, name.1.into()) == Some(slot.cursor);
            if !known && self.crash != Some(self.written) && self.new_cursors.insert(slot.cursor) {
                self.atom(Atom::New(slot.cursor, name));
            }
            self.slot(*index, slot.to_bytes())
        })
    }

    fn switch_entries(&mut self, entries: &[(VipKey, Range)]) -> Result<(), Crash> {
        entries.iter().try_for_each(|(key, range)| self.entry(*key, *range))
    }

    fn remove_entries(&mut self, keys: &[VipKey]) -> Result<(), Crash> {
        keys.iter().try_for_each(|key| {
            self.element()?;
            let element = self.now().linked(key).expect("an entry to remove");
            self.unlink(element);
            Ok(())
        })
    }

    fn retire_slots(&mut self, slots: &[(u32, Slot)]) -> Result<(), Crash> {
        slots.iter().try_for_each(|(index, slot)| self.slot(*index, slot.to_bytes()))
    }

    fn wait(&mut self) -> Result<(), Crash> {
        self.begin_wait()?;
        self.end_wait();
        Ok(())
    }

    fn reset_cursors(&mut self, indices: &[u32]) -> Result<(), Crash> {
        indices.iter().try_for_each(|cursor| {
            self.element()?;
            self.atom(Atom::Reset(*cursor));
            Ok(())
        })
    }

    fn empty_slots(&mut self, indices: &[u32]) -> Result<(), Crash> {
        indices.iter().try_for_each(|index| self.slot(*index, Slot::EMPTIED.to_bytes()))
    }

    fn free_slots(&mut self, indices: &[u32]) -> Result<(), Crash> {
        indices.iter().try_for_each(|index| self.slot(*index, Slot::FREE))
    }
}
