//! The difference between what the maps hold and what they should: a pure function.

use std::{collections::BTreeMap, net::Ipv4Addr};

use fixedbitset::FixedBitSet;
use rustc_hash::{FxHashMap, FxHashSet};
use vipnat_common::{AppId, Range, Slot, SlotFlags, VipKey};

use crate::model::{Capacity, MapFull, Mapping, Snapshot, indices};

type Result<T> = std::result::Result<T, MapFull>;

/// The writes that turn one table into another, in their order. After each of them, every connect
/// goes where the old table or the new one says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// First: new lists, in free slots.
    pub slots: Vec<(u32, Slot)>,
    /// Second: one write for each entry makes its new list the current one.
    pub switches: Vec<(VipKey, Range)>,
    /// Third: entries that go, heads before what is limited.
    pub removals: Vec<VipKey>,
    /// Fourth: the slots that no entry leads to any more, as what they are from then on.
    pub retired: Vec<(u32, Slot)>,
}

impl Plan {
    /// The writes that give the apps in `app_ids` these mappings and nothing else. The snapshot must
    /// have no [`Snapshot::leftover`] but retired ones.
    ///
    /// # Errors
    ///
    /// [`MapFull`] if a map is too small. Slots that this plan retires do not count as free:
    /// readers may still use them while the new lists are written.
    pub fn new(
        now: &Snapshot,
        mappings: &[Mapping],
        app_ids: impl Fn(AppId) -> bool,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut free = None;
        let mut cursors = None;
        let (mut kept, mut new_entries) = (0, 0);
        let mut given = FixedBitSet::with_capacity(now.capacity.cursors as usize);
        for rule in mappings {
            let head = VipKey::head(rule.app_id, rule.vip.octets());
            let head = (head, now.entries.get(&head));
            let first = head.1.and_then(|range| now.slots_in(*range, &head.0)?.next());
            // Foreign hands may have written one that does not exist, where every connect would wait for a
            // turn that never comes, or one that another VIP has.
            let known = |slot: &Slot| {
                slot.cursor < now.capacity.cursors && !given.contains(slot.cursor as usize)
            };
            let cursor = match first.filter(known) {
                Some(slot) => slot.cursor,
                None => cursors.get_or_insert_with(|| FreeCursors::new(now)).take()?,
            };
            given.insert(cursor as usize);
            for key in rule.keys() {
                let old = if key == head.0 { head.1 } else { now.entries.get(&key) };
                if old.is_some() {
                    kept += 1;
                } else {
                    new_entries += 1;
                }
                let slots = old.and_then(|range| now.slots_in(*range, &key));
                if slots.is_some_and(|slots| slots.eq(rule.slots(key, cursor))) {
                    continue;
                }
                let count = rule.slots(key, cursor).count();
                let range = free.get_or_insert_with(|| FreeSlots::new(now)).take(count)?;
                plan.slots.extend(indices(range).zip(rule.slots(key, cursor)));
                plan.switches.push((key, range));
                plan.retire(now, &key, old);
            }
        }
        // What goes is removed after what comes, so it does not make room.
        let free_entries = (now.capacity.vips as usize).saturating_sub(now.entries.len());
        if new_entries > free_entries {
            return Err(MapFull {
                map: "vips",
                needed: new_entries,
                free: Some(free_entries),
                limit: now.capacity.vips,
            });
        }
        if kept < now.entries.len() {
            let wanted: FxHashSet<_> = mappings.iter().flat_map(Mapping::keys).collect();
            let entries = now.entries.iter();
            let gone = entries.filter(|(key, _)| app_ids(key.app_id()) && !wanted.contains(key));
            for (key, range) in gone {
                plan.removals.push(*key);
                plan.retire(now, key, Some(range));
            }
        }
        plan.removals
            .sort_by_key(|key| (*key != VipKey::head(key.app_id(), key.vip), key.to_bytes()));
        // Foreign hands may have let two entries lead to one slot.
        plan.retired.sort_by_key(|(index, _)| *index);
        plan.retired.dedup();
        Ok(plan)
    }

    /// What it takes to change what is done now by a self.
    pub fn capacity_needed(&self, now: &Snapshot) -> Capacity {
        let Capacity { vips, backends, cursors } = now.in_use();
        let new = self.switches.iter().filter(|(key, _)| !now.entries.contains_key(key));
        let is_head = |key: &VipKey| *key == VipKey::head(key.app_id(), key.vip);
        let new_heads = new.clone().filter(|(key, _)| is_head(key)).count() as u32;
        Capacity {
            vips: vips + new.count() as u32,
            backends: backends.saturating_add(self.slots.len() as u32),
            cursors: cursors + new_heads,
        }
    }

    /// Only what is the entry's own: foreign hands may have let it lead to slots of others.
    fn retire(&mut self, now: &Snapshot, key: &VipKey, range: Option<&Range>) {
        let slots = range.copied().into_iter().flat_map(indices);
        let slots = slots.filter_map(|index| Some((index, (*now.slots.get(index as usize)?)?)));
        let own = slots.filter(|(_, slot)| slot.owner == *key);
        self.retired.extend(own.map(retired));
    }

    /// The same without taking anything away from some app ids.
    pub fn holding_back(&self, now: &Snapshot, held: impl Fn(AppId) -> bool) -> Self {
        let mut plan = self.clone();
        let kept: Vec<_> = plan.removals.extract_if(.., |key| held(key.app_id())).collect();
        let slots = kept.iter().filter_map(|key| now.entries.get(key)).copied().flat_map(indices);
        let slots: FxHashSet<_> = slots.collect();
        plan.retired.retain(|(index, _)| !slots.contains(index));
        plan
    }

    /// What to retire when nothing but what a crash left is to go.
    pub fn tidy(now: &Snapshot) -> Self {
        let abandoned = now.leftover().filter(|(_, slot)| !slot.has(SlotFlags::RETIRED));
        Self { retired: abandoned.map(retired).collect(), ..Self::default() }
    }
}

fn retired((index, slot): (u32, Slot)) -> (u32, Slot) {
    (index, slot.retired())
}

/// What to do about retired slots, a grace period after they were retired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// First: cursors that nobody has any more go back to the first turn.
    pub cursors: Vec<u32>,
    /// Then slots are emptied. A slot is what keeps a cursor taken.
    pub emptied: Vec<u32>,
    /// Slots that were emptied before are freed.
    pub freed: Vec<u32>,
}

impl Reclaim {
    /// All of them.
    pub fn new(now: &Snapshot) -> Self {
        let retired = now.leftover().filter(|(_, slot)| slot.has(SlotFlags::RETIRED));
        let (emptied, retired): (Vec<_>, Vec<_>) =
            retired.partition(|(_, slot)| *slot == Slot::EMPTIED);
        let freed = emptied.into_iter().map(|(index, _)| index).collect();
        let retired: FxHashMap<_, _> = retired.into_iter().collect();
        let mut in_use = FixedBitSet::new();
        let slots = (0..).zip(&now.slots).filter_map(|(index, slot)| Some((index, (*slot)?)));
        let kept =
            slots.filter(|(index, slot)| *slot != Slot::EMPTIED && !retired.contains_key(index));
        let known = |cursor: &u32| *cursor < now.capacity.cursors;
        let kept = kept.map(|(_, slot)| slot.cursor).filter(known);
        kept.for_each(|cursor| in_use.grow_and_insert(cursor as usize));
        let cursors = retired.values().map(|slot| slot.cursor).filter(known);
        let mut cursors: Vec<_> =
            cursors.filter(|cursor| !in_use.contains(*cursor as usize)).collect();
        cursors.sort_unstable();
        cursors.dedup();
        let mut emptied: Vec<_> = retired.into_keys().collect();
        emptied.sort_unstable();
        Self { cursors, emptied, freed }
    }
}

/// Runs of free slots, given out from the lowest that is long enough.
struct FreeSlots {
    runs: Vec<Range>,
    /// Those before this one are used up.
    next: usize,
    capacity: u32,
}

impl FreeSlots {
    fn new(now: &Snapshot) -> Self {
        let mut runs: Vec<Range> = Vec::new();
        for (index, _) in (0..).zip(&now.slots).filter(|(_, slot)| slot.is_none()) {
            match runs.last_mut() {
                Some(run) if run.first + run.count == index => run.count += 1,
                _ => runs.push(Range { first: index, count: 1 }),
            }
        }
        Self { runs, next: 0, capacity: now.capacity.backends }
    }

    fn take(&mut self, count: usize) -> Result<Range> {
        let capacity = self.capacity;
        let full = |runs: &[Range]| MapFull {
            map: "backends",
            needed: count,
            free: Some(runs.iter().map(|run| run.count as usize).max().unwrap_or(0)),
            limit: capacity,
        };
        let count_u32 = u32::try_from(count).map_err(|_| full(&self.runs))?;
        let mut left = self.runs[self.next..].iter_mut();
        let Some(run) = left.find(|run| run.count >= count_u32) else {
            return Err(full(&self.runs));
        };
        let range = Range { first: run.first, count: count_u32 };
        run.first += count_u32;
        run.count -= count_u32;
        while self.runs.get(self.next).is_some_and(|run| run.count == 0) {
            self.next += 1;
        }
        Ok(range)
    }
}

/// Cursors that no slot points to, lowest first.
struct FreeCursors {
    taken: FixedBitSet,
    next: u32,
    capacity: u32,
}

impl FreeCursors {
    fn new(now: &Snapshot) -> Self {
        let mut taken = FixedBitSet::new();
        let capacity = now.capacity.cursors;
        // What is beyond, foreign hands have written.
        let slots = now.slots.iter().flatten();
        let slots = slots.filter(|slot| **slot != Slot::EMPTIED && slot.cursor < capacity);
        slots.for_each(|slot| taken.grow_and_insert(slot.cursor as usize));
        Self { taken, next: 0, capacity }
    }

    fn take(&mut self) -> Result<u32> {
        while self.taken.contains(self.next as usize) {
            self.next += 1;
        }
        if self.next >= self.capacity {
            let limit = self.capacity;
            return Err(MapFull { map: "cursors", needed: 1, free: Some(0), limit });
        }
        self.next += 1;
        Ok(self.next - 1)
    }
}

/// One difference between two tables, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingChange {
    /// The app.
    pub app_id: AppId,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// What it did; `None` if it is new.
    pub old: Option<Mapping>,
    /// What it does from now on; `None` if it goes.
    pub new: Option<Mapping>,
}

/// The mappings that a plan changes, by app and VIP.
pub fn changes(now: &Snapshot, mappings: &[Mapping], plan: &Plan) -> Vec<MappingChange> {
    let keys = plan.switches.iter().map(|(key, _)| key).chain(&plan.removals);
    let touched: FxHashSet<_> = keys.map(|key| (key.app_id(), Ipv4Addr::from(key.vip))).collect();
    if touched.is_empty() {
        return Vec::new();
    }
    let mut old = now.rules_of(touched.iter().copied());
    let new = mappings.iter().filter(|rule| touched.contains(&(rule.app_id, rule.vip)));
    let mut new: BTreeMap<_, _> = new.map(|rule| ((rule.app_id, rule.vip), rule.clone())).collect();
    let mut touched: Vec<_> = touched.into_iter().collect();
    touched.sort_unstable();
    let change = |(app_id, vip)| {
        let (old, new) = (old.remove(&(app_id, vip)), new.remove(&(app_id, vip)));
        (old != new).then_some(MappingChange { app_id, vip, old, new })
    };
    touched.into_iter().filter_map(change).collect()
}
