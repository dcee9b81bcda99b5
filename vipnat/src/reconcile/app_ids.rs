//! Gives new apps their app ids.

use std::collections::HashSet;

use vipnat_common::{AppId, VipKey};
use vipnat_core::model::Snapshot;

use crate::state::links::AttachedApp;

/// Unused app ids, lowest first: no app ever had them, and no entry or slot has them. A socket may keep UDP
/// flows of a removed app, and must not take them to another app.
pub(crate) struct FreeAppIds<'a> {
    snapshot: &'a Snapshot,
    attached: &'a [AttachedApp],
    taken: Option<HashSet<AppId>>,
    next: u32,
}

impl<'a> FreeAppIds<'a> {
    /// The ids after `last`, the highest one that was ever given.
    pub(crate) fn new(snapshot: &'a Snapshot, attached: &'a [AttachedApp], last: u32) -> Self {
        Self { snapshot, attached, taken: None, next: last.checked_add(1).unwrap_or(1) }
    }

    /// Takes the next id.
    pub(crate) fn take(&mut self) -> AppId {
        let taken = self.taken.get_or_insert_with(|| {
            let entries = self.snapshot.entries.keys().map(VipKey::app_id);
            let slots = self.snapshot.slots.iter().flatten().map(|slot| slot.owner.app_id());
            let attached = self.attached.iter().map(|app| app.app_id);
            attached.chain(entries).chain(slots).collect()
        });
        loop {
            let app_id = AppId(self.next);
            // Only another program can have written the last number of all to the map. The search then goes
            // on from 1, since 0 means "no app".
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !taken.contains(&app_id) {
                return app_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vipnat_core::model::Capacity;

    use super::*;

    #[test]
    fn no_app_is_given_id_0_whatever_the_last_one_was() {
        let now = Snapshot::fresh(Capacity::MIN);
        for (last, expected) in [
            (0, [1, 2, 3]),
            (7, [8, 9, 10]),
            (u32::MAX - 2, [u32::MAX - 1, u32::MAX, 1]),
            (u32::MAX, [1, 2, 3]),
        ] {
            let mut free = FreeAppIds::new(&now, &[], last);
            assert_eq!([(); 3].map(|()| free.take().0), expected, "{last}");
        }
    }
}
