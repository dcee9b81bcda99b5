//! The writer: plans carried out on maps in memory, in steps as small as a reader can see.

use std::collections::BTreeSet;

use vipnat_common::{Range, Slot, SlotFlags, VipKey};

use super::memory::{Memory, Name, Step};
use crate::{
    model::Mapping,
    plan::{Plan, Reclaim},
};

/// How plans are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// As they are.
    Real,
    /// As they are, but slots are copied from their end.
    Backwards,
    /// As they are, but a [`Range`] is not copied in one piece.
    TornRanges,
    /// Without the grace period.
    NoWait,
    /// Entries lead to lists that are yet to be written.
    SwitchesFirst,
    /// Of the entries of a limited VIP, the head is written first.
    HeadsFirst,
    /// Entries go before others come.
    RemovalsFirst,
    /// Cursors are reset before the grace period.
    ResetsFirst,
    /// Retired slots are free after one grace period.
    FreesAtOnce,
}

enum Write {
    Slot(u32, Slot),
    Switch(VipKey, Range),
    Remove(VipKey),
    Wait,
    Reset(u32),
    Empty(u32),
    Free(u32),
}

/// The writes of a plan in their order: those of `carry_out`.
fn order(plan: &Plan, protocol: Protocol) -> Vec<Write> {
    let Plan { slots, switches, removals, retired } = plan;
    let slots = slots.iter().map(|(index, slot)| Write::Slot(*index, *slot)).collect();
    let mut switches: Vec<_> =
        switches.iter().map(|(key, range)| Write::Switch(*key, *range)).collect();
    let removals = removals.iter().map(|key| Write::Remove(*key)).collect();
    let retired = retired.iter().map(|(index, slot)| Write::Slot(*index, *slot)).collect();
    let parts: Vec<Vec<Write>> = match protocol {
        Protocol::SwitchesFirst => vec![switches, slots, removals, retired],
        Protocol::HeadsFirst => {
            switches.reverse();
            vec![slots, switches, removals, retired]
        }
        Protocol::RemovalsFirst => vec![slots, removals, switches, retired],
        Protocol::Real
        | Protocol::Backwards
        | Protocol::TornRanges
        | Protocol::NoWait
        | Protocol::ResetsFirst
        | Protocol::FreesAtOnce => vec![slots, switches, removals, retired],
    };
    parts.into_iter().flatten().collect()
}

/// The same for what is retired: those of `reclaim`.
fn order_of_reclaim(reclaim: &Reclaim, protocol: Protocol) -> Vec<Write> {
    let Reclaim { cursors, emptied, freed } = reclaim;
    let resets = cursors.iter().map(|cursor| Write::Reset(*cursor)).collect();
    let empties: Vec<_> = emptied.iter().map(|index| Write::Empty(*index)).collect();
    let mut frees: Vec<_> = freed.iter().map(|index| Write::Free(*index)).collect();
    let none = empties.is_empty() && frees.is_empty();
    let wait = if none { vec![] } else { vec![Write::Wait] };
    if protocol == Protocol::FreesAtOnce {
        frees.extend(emptied.iter().map(|index| Write::Free(*index)));
    }
    let parts: Vec<Vec<Write>> = match protocol {
        Protocol::NoWait => vec![resets, empties, frees],
        Protocol::ResetsFirst => vec![resets, wait, empties, frees],
        Protocol::FreesAtOnce => vec![wait, resets, frees],
        _ => vec![wait, resets, empties, frees],
    };
    parts.into_iter().flatten().collect()
}

/// How many writes lead from the first table to the second.
pub(super) fn writes(tables: &[Vec<Mapping>]) -> usize {
    let history = History::new(tables, &[], Protocol::Real);
    let plan = Plan::new(&history.now().snapshot(), &tables[1], |_| true).unwrap();
    order(&plan, Protocol::Real).len()
}

/// One apply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apply {
    /// Which table.
    pub(super) table: usize,
    /// It ends after so many writes, if not by itself.
    pub(super) crash: Option<usize>,
}

/// All that a writer does, and the maps before each of its steps and after the last one.
pub(super) struct History {
    pub(super) steps: Vec<Step>,
    pub(super) moments: Vec<Memory>,
    /// The applies, and their steps.
    applies: Vec<(Apply, std::ops::Range<usize>)>,
    pub(super) protocol: Protocol,
}

impl History {
    /// The first table is there from the start; the others are applied one after the other.
    pub(super) fn new(tables: &[Vec<Mapping>], applies: &[Apply], protocol: Protocol) -> Self {
        let mut history =
            Self { steps: vec![], moments: vec![Memory::new()], applies: vec![], protocol };
        history.apply(&tables[0], Apply { table: 0, crash: None });
        history.moments.drain(..history.steps.len());
        history.steps.clear();
        history.applies.clear();
        for apply in applies {
            history.apply(&tables[apply.table], *apply);
        }
        history
    }

    fn now(&self) -> &Memory {
        self.moments.last().unwrap()
    }

    fn apply(&mut self, mappings: &[Mapping], apply: Apply) {
        let begin = self.steps.len();
        let tidy = order(&Plan::tidy(&self.now().snapshot()), self.protocol);
        self.carry_out(tidy);
        assert_eq!(Plan::tidy(&self.now().snapshot()), Plan::default());
        // Each time, so that slots are used again as soon as they can be.
        let reclaim = Reclaim::new(&self.now().snapshot());
        self.carry_out(order_of_reclaim(&reclaim, self.protocol));
        let plan = Plan::new(&self.now().snapshot(), mappings, |_| true).unwrap();
        let mut writes = order(&plan, self.protocol);
        writes.truncate(apply.crash.unwrap_or(usize::MAX));
        self.carry_out(writes);
        self.applies.push((apply, begin..self.steps.len()));
        if apply.crash.is_none() {
            let again = Plan::new(&self.now().snapshot(), mappings, |_| true).unwrap();
            assert_eq!(again, Plan::default());
        }
    }

    fn carry_out(&mut self, writes: Vec<Write>) {
        let before = self.now().snapshot();
        let mut new = BTreeSet::new();
        for write in writes {
            match write {
                Write::Slot(index, slot) if slot.has(SlotFlags::RETIRED) => {
                    self.write(index, slot.to_bytes());
                }
                Write::Slot(index, slot) => {
                    let name = (slot.owner.app_id(), slot.owner.vip);
                    let known = before.cursor_of(name.0, name.1.into()) == Some(slot.cursor);
                    if !known && new.insert(slot.cursor) {
                        self.step(Step::New(slot.cursor, name));
                    }
                    self.write(index, slot.to_bytes());
                }
                Write::Empty(index) => self.write(index, Slot::EMPTIED.to_bytes()),
                Write::Free(index) => self.write(index, Slot::FREE),
                Write::Switch(key, range) => self.switch(key, range),
                Write::Remove(key) => {
                    let element = self.now().linked(&key).expect("an entry to remove");
                    self.step(Step::Unlink(element));
                    self.moments.last_mut().unwrap().free.push(element);
                }
                Write::Wait => {
                    self.step(Step::WaitBegins);
                    self.step(Step::WaitEnds);
                }
                Write::Reset(cursor) => self.step(Step::Reset(cursor)),
            }
        }
    }

    /// An update of an array: a plain copy. Of what stays as it is nobody sees anything.
    fn write(&mut self, index: u32, bytes: [u8; 24]) {
        let mut words: Vec<_> =
            bytes.chunks(4).map(|word| word.try_into().unwrap()).enumerate().collect();
        if self.protocol == Protocol::Backwards {
            words.reverse();
        }
        for (word, value) in words {
            if self.now().word(index, word) != value {
                self.step(Step::Word(index, word, value));
            }
        }
    }

    /// An update of a hash, in the order of `htab_map_update_elem`.
    fn switch(&mut self, key: VipKey, range: Range) {
        let old = self.now().linked(&key);
        let memory = self.moments.last_mut().unwrap();
        let new = memory.free.pop().unwrap_or(memory.elements.len());
        if new == memory.elements.len() {
            // Fresh memory; no reader can have it.
            memory.elements.push((key, range));
        } else {
            self.step(Step::Key(new, key));
            if self.protocol == Protocol::TornRanges {
                self.step(Step::First(new, range.first));
                self.step(Step::Count(new, range.count));
            } else {
                self.step(Step::Range(new, range));
            }
        }
        self.step(Step::Link(new));
        if let Some(old) = old {
            self.step(Step::Unlink(old));
            self.moments.last_mut().unwrap().free.push(old);
        }
    }

    fn step(&mut self, step: Step) {
        let mut memory = self.now().clone();
        memory.take(step);
        self.steps.push(step);
        self.moments.push(memory);
    }

    /// For each moment: the end of the first wait that a reader that begins then holds up.
    pub(super) fn barriers(&self) -> Vec<usize> {
        let begins =
            |from: usize| (from..self.steps.len()).find(|i| self.steps[*i] == Step::WaitBegins);
        (0..=self.steps.len())
            .map(|from| begins(from).map_or(usize::MAX, |begin| begin + 1))
            .collect()
    }

    /// For each moment: the tables that are current for a VIP.
    pub(super) fn current(&self, (app_id, vip): Name) -> Vec<Current> {
        let mut now = Current { remembered: 0, oldest: 0, newest: 0, coming: 0 };
        let mut all = vec![now];
        for (Apply { table, crash }, steps) in &self.applies {
            let own = |key: VipKey| key.app_id() == app_id && key.vip == vip;
            let touches = |at: &usize| match self.steps[*at] {
                Step::Link(element) | Step::Unlink(element) => {
                    own(self.moments[*at].elements[element].0)
                }
                _ => false,
            };
            let last = steps.clone().rfind(touches);
            if last.is_none() && crash.is_none() {
                // Nothing changes for it.
                (now.oldest, now.newest) = (*table, *table);
            }
            now.coming = *table;
            *all.last_mut().unwrap() = now;
            for at in steps.clone() {
                // Who has an element in hand since its last use may find it before it is linked.
                let fills = matches!(self.steps[at], Step::Key(_, key) if own(key));
                if fills || touches(&at) {
                    now.newest = *table;
                }
                if Some(at) == last && crash.is_none() {
                    now.oldest = *table;
                }
                if at + 1 == steps.end && crash.is_none() {
                    now.remembered = *table;
                }
                all.push(now);
            }
        }
        all
    }
}

/// The tables between which a VIP is, as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    /// The oldest one of which there may still be slots.
    pub(super) remembered: usize,
    /// The oldest one that a reader that begins may find.
    pub(super) oldest: usize,
    /// The newest one that a reader may find: its lists are complete.
    pub(super) newest: usize,
    /// The newest one of which there may be slots.
    pub(super) coming: usize,
}
