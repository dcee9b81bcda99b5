//! The difference between what the maps hold and what they should: a pure function.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
};

use vipnat_common::{Range, Slot, VipKey, layout::capacity};

use super::{
    error::{Error, Result},
    rule::Rule,
    snapshot::{Snapshot, indices},
};

/// The writes that turn one table into another, in their order. After each of them, every connect
/// goes where the old table or the new one says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// First: new lists, in free slots.
    pub(super) slots: Vec<(u32, Slot)>,
    /// Second: one write for each entry makes its new list the current one.
    pub(super) switches: Vec<(VipKey, Range)>,
    /// Third: entries that go, heads before what is limited.
    pub(super) removals: Vec<VipKey>,
    /// After a grace period: cursors that nobody has any more, then slots.
    pub(super) cursors: BTreeSet<u32>,
    /// See above. A slot is what keeps a cursor taken, so it goes last.
    pub(super) freed: BTreeSet<u32>,
}

impl Plan {
    /// The writes that give the apps in `scopes` these rules and nothing else. The snapshot must
    /// have no [`Snapshot::leftover`].
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if a map is too small. Slots that this plan would free do not count as free:
    /// readers may still use them while the new lists are written.
    pub(super) fn new(
        now: &Snapshot,
        rules: &[Rule],
        scopes: impl Fn(u32) -> bool,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut free = FreeSlots::new(now);
        let mut cursors = FreeCursors::new(now);
        let mut wanted = HashSet::new();
        let mut new_entries = 0;
        for rule in rules {
            let cursor = match now.cursor_of(rule.scope, rule.vip) {
                Some(cursor) => cursor,
                None => cursors.take()?,
            };
            for (key, slots) in rule.entries(cursor) {
                wanted.insert(key);
                if now.slots_of(&key).as_ref() == Some(&slots) {
                    continue;
                }
                new_entries += usize::from(!now.entries.contains_key(&key));
                let range = free.take(slots.len())?;
                plan.slots.extend(indices(range).zip(slots));
                plan.switches.push((key, range));
                plan.freed.extend(now.entries.get(&key).copied().into_iter().flat_map(indices));
            }
        }
        // What goes is removed after what comes, so it does not make room.
        let free_entries = (capacity::VIPS as usize).saturating_sub(now.entries.len());
        if new_entries > free_entries {
            return Err(Error::Full {
                map: "vips",
                needed: new_entries,
                free: free_entries,
                capacity: capacity::VIPS,
            });
        }
        for (key, range) in &now.entries {
            if scopes(key.scope) && !wanted.contains(key) {
                plan.removals.push(*key);
                plan.freed.extend(indices(*range));
            }
        }
        plan.removals.sort_by_key(|key| (*key != VipKey::head(key.scope, key.vip), key.to_bytes()));
        plan.cursors = unused_cursors(now, &plan);
        Ok(plan)
    }

    /// The same without taking anything away from some scopes.
    pub(super) fn holding_back(&self, now: &Snapshot, held: impl Fn(u32) -> bool) -> Self {
        let mut plan = self.clone();
        let kept: Vec<_> = plan.removals.extract_if(.., |key| held(key.scope)).collect();
        for index in kept.iter().filter_map(|key| now.entries.get(key)).copied().flat_map(indices) {
            plan.freed.remove(&index);
        }
        plan.cursors = unused_cursors(now, &plan);
        plan
    }

    /// What to free when nothing but `leftover` slots are to go.
    pub(super) fn tidy(now: &Snapshot, leftover: Vec<u32>) -> Self {
        let mut plan = Self { freed: leftover.into_iter().collect(), ..Self::default() };
        plan.cursors = unused_cursors(now, &plan);
        plan
    }
}

/// The cursors that only slots to be freed point to.
fn unused_cursors(now: &Snapshot, plan: &Plan) -> BTreeSet<u32> {
    let kept = now.slots.iter().filter(|(index, _)| !plan.freed.contains(index));
    let kept = kept.map(|(_, slot)| slot.cursor);
    let in_use: HashSet<u32> = kept.chain(plan.slots.iter().map(|(_, slot)| slot.cursor)).collect();
    let freed = plan.freed.iter().filter_map(|index| now.slots.get(index));
    freed.map(|slot| slot.cursor).filter(|cursor| !in_use.contains(cursor)).collect()
}

/// Runs of free slots, given out from the lowest that is long enough.
struct FreeSlots {
    runs: Vec<Range>,
}

impl FreeSlots {
    fn new(now: &Snapshot) -> Self {
        let mut runs = Vec::new();
        let mut next = 0;
        for taken in now.slots.keys().copied().chain([capacity::BACKENDS]) {
            if taken > next {
                runs.push(Range { first: next, count: taken - next });
            }
            next = taken + 1;
        }
        Self { runs }
    }

    fn take(&mut self, count: usize) -> Result<Range> {
        let full = |runs: &[Range]| Error::Full {
            map: "backends",
            needed: count,
            free: runs.iter().map(|run| run.count as usize).max().unwrap_or(0),
            capacity: capacity::BACKENDS,
        };
        let count_u32 = u32::try_from(count).map_err(|_| full(&self.runs))?;
        let Some(i) = self.runs.iter().position(|run| run.count >= count_u32) else {
            return Err(full(&self.runs));
        };
        let run = &mut self.runs[i];
        let range = Range { first: run.first, count: count_u32 };
        run.first += count_u32;
        run.count -= count_u32;
        if run.count == 0 {
            self.runs.remove(i);
        }
        Ok(range)
    }
}

/// Cursors that no slot points to, lowest first.
struct FreeCursors {
    taken: HashSet<u32>,
    next: u32,
}

impl FreeCursors {
    fn new(now: &Snapshot) -> Self {
        Self { taken: now.slots.values().map(|slot| slot.cursor).collect(), next: 0 }
    }

    fn take(&mut self) -> Result<u32> {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        if self.next >= capacity::CURSORS {
            return Err(Error::Full {
                map: "cursors",
                needed: 1,
                free: 0,
                capacity: capacity::CURSORS,
            });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// One difference between two tables, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleChange {
    pub(super) scope: u32,
    pub(super) vip: Ipv4Addr,
    pub(super) old: Option<Rule>,
    pub(super) new: Option<Rule>,
}

/// The rules that differ, by app and VIP.
pub(super) fn changes(now: &Snapshot, rules: &[Rule]) -> Vec<RuleChange> {
    let old = now.rules();
    let new: HashMap<_, _> = rules.iter().map(|rule| ((rule.scope, rule.vip), rule)).collect();
    let keys: BTreeSet<_> = old.keys().copied().chain(new.keys().copied()).collect();
    let change = |(scope, vip)| {
        let (old, new) =
            (old.get(&(scope, vip)).cloned(), new.get(&(scope, vip)).map(|r| (*r).clone()));
        (old != new).then_some(RuleChange { scope, vip, old, new })
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
