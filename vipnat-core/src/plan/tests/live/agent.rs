//! The agent: it follows its own writes, and falls back to a whole apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::Ipv4Addr,
};

use vipnat_common::AppId;

use crate::{
    model::{Capacity, Mapping},
    plan::{
        LiveMaps, Plan, Reclaim, Step, changes, execute,
        tests::fake::{Failed, FakeMaps},
    },
};

/// A VIP of an app.
pub(super) type Name = (AppId, Ipv4Addr);

/// Maps, and the agent that changes them.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) fake: FakeMaps,
    /// What the agent takes the maps for.
    pub(super) live: LiveMaps,
    /// The table that the maps should follow.
    pub(super) table: BTreeMap<Name, Mapping>,
    /// A reclaim whose wait has begun.
    pub(super) reclaim: Option<Reclaim>,
}

impl Agent {
    pub(super) fn new(capacity: Capacity) -> Self {
        let fake = FakeMaps::new(capacity);
        let live = LiveMaps::new(fake.maps.clone());
        Self { fake, live, table: BTreeMap::new(), reclaim: None }
    }

    /// All mappings of the table.
    pub(super) fn mappings(&self) -> Vec<Mapping> {
        self.table.values().cloned().collect()
    }

    /// Makes the table that these mappings give, and writes the VIPs that they name. `look` sees the maps
    /// after each write. After an error, the caller falls back.
    pub(super) fn change(
        &mut self,
        new: &BTreeMap<Name, Option<Mapping>>,
        look: impl FnMut(&FakeMaps),
    ) -> Result<(), Failed> {
        for (name, mapping) in new {
            match mapping {
                Some(mapping) => drop(self.table.insert(*name, mapping.clone())),
                None => drop(self.table.remove(name)),
            }
        }
        let vips: BTreeSet<_> = new.keys().copied().collect();
        let mappings: Vec<_> = new.values().flatten().cloned().collect();
        let before = self.live.clone();
        let Ok(plan) = self.live.plan(&vips, &mappings) else {
            assert!(self.live == before);
            // A whole apply makes room.
            return Err(Failed);
        };
        let changed = self.live.changes(&mappings, &plan);
        assert!(self.live == before, "a plan changes nothing");
        if !self.fake.foreign {
            let all = self.mappings();
            assert_eq!(plan, Plan::new(&self.fake.maps, &all, |_| true).unwrap());
            assert_eq!(changed, changes(&self.fake.maps, &all, &plan));
        }
        self.run(&plan.steps(), look)
    }

    /// Finds what can be used again, and begins to wait.
    pub(super) fn begin_reclaim(&mut self) {
        if self.reclaim.is_none() {
            let reclaim = self.live.reclaim();
            if !self.fake.foreign {
                assert_eq!(reclaim, Reclaim::new(&self.fake.maps));
            }
            self.reclaim = Some(reclaim);
        }
    }

    /// The wait is over.
    pub(super) fn finish_reclaim(&mut self, look: impl FnMut(&FakeMaps)) -> Result<(), Failed> {
        let reclaim = self.reclaim.take().unwrap_or_default();
        self.run(&reclaim.steps_after_waiting(), look)
    }

    fn run(&mut self, steps: &[Step<'_>], look: impl FnMut(&FakeMaps)) -> Result<(), Failed> {
        self.fake.run(steps, look)?;
        let Ok::<(), Infallible>(()) = execute(steps, &mut self.live);
        self.check();
        Ok(())
    }

    /// A whole apply of the table, with all that the agent knows read anew.
    pub(super) fn fall_back(&mut self, mut look: impl FnMut(&FakeMaps)) -> Result<(), Failed> {
        self.fake.foreign = false;
        self.reclaim = None;
        self.fake.command(&self.mappings(), &mut look)?;
        self.live = LiveMaps::new(self.fake.maps.clone());
        if self.live.is_tidy() {
            return Ok(());
        }
        // An entry was replaced that another program had pointed to slots of other entries.
        let tidy = Plan::tidy(self.live.snapshot());
        self.fake.run(&tidy.steps(), look)?;
        let Ok::<(), Infallible>(()) = execute(&tidy.steps(), &mut self.live);
        Ok(())
    }

    /// Checks what the agent takes the maps for.
    pub(super) fn check(&self) {
        let fresh = LiveMaps::new(self.live.snapshot().clone());
        assert!(self.live == fresh, "{:?}\n{fresh:?}", self.live);
        if !self.fake.foreign {
            assert_eq!(self.live.snapshot(), &self.fake.maps);
            assert!(self.live.is_tidy());
            assert_eq!(self.live.resting(), self.fake.maps.leftover().count());
        }
    }

    /// Checks that the maps are those of the table.
    pub(super) fn check_table(&self) {
        let mut whole = FakeMaps::new(self.fake.maps.capacity);
        whole.apply(&self.mappings());
        assert_eq!(self.fake.maps.mappings(), whole.maps.mappings());
        assert_eq!(self.fake.maps.mappings(), self.table);
        let again = Plan::new(&self.fake.maps, &self.mappings(), |_| true);
        assert_eq!(again.unwrap(), Plan::default());
        assert_eq!(self.live.mappings_of(self.table.keys().copied()), self.table);
        let ids: BTreeSet<_> = self.table.keys().map(|(app_id, _)| *app_id).collect();
        for app_id in (0..8).map(AppId) {
            let vips = self.table.keys().filter(|name| name.0 == app_id).map(|name| name.1);
            assert!(self.live.vips_of(app_id).eq(vips));
            assert_eq!(self.live.has_app(app_id), ids.contains(&app_id));
        }
        let cursors = self.table.keys().map(|name| self.fake.maps.cursor_of(name.0, name.1));
        let cursors: BTreeSet<_> = cursors.map(|cursor| cursor.expect("a cursor")).collect();
        assert_eq!(cursors.len(), self.table.len(), "a cursor for each VIP");
    }
}
