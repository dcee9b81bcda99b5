//! What the maps hold, read back.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use vipnat_common::{Range, Slot, VipKey};

use super::rule::{Rule, Turn};

/// The maps `vips` and `backends` at one moment. `Default` is what fresh maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All entries.
    pub(super) entries: HashMap<VipKey, Range>,
    /// All slots that are not free, by index.
    pub(super) slots: BTreeMap<u32, Slot>,
}

impl Snapshot {
    /// The slots of an entry; `None` if there is no such entry or they are not its own, which only
    /// foreign hands can have done.
    pub(super) fn slots_of(&self, key: &VipKey) -> Option<Vec<Slot>> {
        let range = self.entries.get(key)?;
        let slots =
            indices(*range).map(|i| self.slots.get(&i).copied().filter(|s| s.owner == *key));
        slots.collect::<Option<Vec<_>>>().filter(|slots| !slots.is_empty())
    }

    /// The cursor of a VIP, if it has an entry.
    pub(super) fn cursor_of(&self, scope: u32, vip: Ipv4Addr) -> Option<u32> {
        let slots = self.slots_of(&VipKey::head(scope, vip.octets()))?;
        slots.first().map(|slot| slot.cursor)
    }

    /// Slots that belong to nobody any more: a crash kept them from being freed.
    pub(super) fn leftover(&self) -> Vec<u32> {
        let used: std::collections::HashSet<_> =
            self.entries.values().copied().flat_map(indices).collect();
        self.slots.keys().copied().filter(|index| !used.contains(index)).collect()
    }

    /// The rules that the entries make, by app and VIP. What the hooks would do: a head that is not
    /// limited hides the limited entries that a crash may have left beside it.
    pub(super) fn rules(&self) -> BTreeMap<(u32, Ipv4Addr), Rule> {
        let mut rules = BTreeMap::new();
        for key in self.entries.keys() {
            let VipKey { scope, vip, port, protocol, reserved: _ } = *key;
            let head = VipKey::head(scope, vip);
            let limited =
                self.slots_of(&head).is_some_and(|slots| slots[0].flags & Slot::LIMITED != 0);
            if limited == (*key == head) {
                continue;
            }
            let slots = self.slots_of(key).unwrap_or_default();
            let reachable = slots.iter().filter(|slot| slot.flags & Slot::UNREACHABLE == 0);
            let turns =
                reachable.map(|slot| Turn { ip: slot.ip.into(), port: slot.port }).collect();
            let (select, udp_pinning) = Rule::choices(slots.first().map_or(0, |slot| slot.flags));
            let rule = Rule { scope, vip: vip.into(), port, protocol, turns, select, udp_pinning };
            rules.insert((scope, rule.vip), rule);
        }
        rules
    }
}

/// The indices of a range.
pub(super) fn indices(range: Range) -> std::ops::Range<u32> {
    range.first..range.first.saturating_add(range.count)
}
