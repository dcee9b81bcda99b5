//! Each write of the agent fails once. A reader looks after each write.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::agent::{Agent, Name};
use crate::{
    model::Mapping,
    plan::tests::{
        each_write::{check, connect},
        fake::CAPACITY,
        tables::tables,
    },
};

/// The VIPs that differ, with their new mappings.
fn difference(old: &[Mapping], new: &[Mapping]) -> BTreeMap<Name, Option<Mapping>> {
    let name = |mapping: &Mapping| (mapping.app_id, mapping.vip);
    let gone = old.iter().filter(|old| !new.contains(old)).map(|old| (name(old), None));
    let new = new.iter().filter(|new| !old.contains(new));
    gone.chain(new.map(|new| (name(new), Some(new.clone())))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A reclaim waits while a change is made. Each of their writes fails once, and so does one of the repair.
    /// Meanwhile each connect goes where the old table or the new one sends it.
    #[test]
    fn a_failure_of_the_agent_anywhere_is_repaired(
        tables in proptest::collection::vec(tables(), 3..6), more in 0..12usize,
    ) {
        let mut agent = Agent::new(CAPACITY);
        let mut old = Vec::new();
        for new in &tables[..tables.len() - 1] {
            agent.begin_reclaim();
            agent.change(&difference(&old, new), |maps| check(maps, &old, new)).unwrap();
            agent.finish_reclaim(|maps| check(maps, new, new)).unwrap();
            connect(&agent.fake);
            old = new.clone();
        }
        let new = &tables[tables.len() - 1];
        agent.begin_reclaim();
        for writes in 0.. {
            let mut agent = agent.clone();
            agent.fake.writes_left = Some(writes);
            let changed = agent.change(&difference(&old, new), |maps| check(maps, &old, new));
            let done = changed.and_then(|()| {
                agent.finish_reclaim(|maps| check(maps, new, new))
            });
            if done.is_err() {
                agent.fake.writes_left = Some(more);
                let _ = agent.fall_back(|maps| check(maps, &old, new));
                agent.fake.writes_left = None;
                agent.fall_back(|maps| check(maps, &old, new)).unwrap();
            }
            check(&agent.fake, new, new);
            agent.check();
            agent.check_table();
            if done.is_ok() {
                break;
            }
        }
    }
}
