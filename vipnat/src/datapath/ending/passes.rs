//! What is to be ended, found among the sockets, and what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

use rustc_hash::FxHashMap;
use vipnat_common::Note;

use super::{
    super::{
        departed::Rules,
        error::Error,
        sockets::{Connection, End, Search},
    },
    uncertain,
};
use crate::drains::Drain;

/// What is to be ended, to be found by what sockets have noted.
pub(super) struct Due {
    pub(super) drains: Vec<Drain>,
    places: FxHashMap<(u32, Ipv4Addr), Vec<usize>>,
}

impl Due {
    pub(super) fn new(drains: Vec<Drain>) -> Self {
        let mut places: FxHashMap<_, Vec<_>> = FxHashMap::default();
        for (place, Drain { departed, .. }) in drains.iter().enumerate() {
            places.entry((departed.scope, departed.vip)).or_default().push(place);
        }
        Self { drains, places }
    }

    /// The cgroups of some of it.
    pub(super) fn cgroups(&self, places: impl Iterator<Item = usize>) -> Vec<PathBuf> {
        let places: BTreeSet<_> = places.collect();
        let mut seen = BTreeSet::new();
        let all = places.into_iter().flat_map(|place| &self.drains[place].cgroups);
        all.filter(|cgroup| seen.insert(*cgroup)).cloned().collect()
    }
}

/// What counts at one moment.
pub(super) struct Current {
    pub(super) is_due: Vec<bool>,
    pub(super) rules: Rules,
}

impl Current {
    /// Which backend a noted socket was given.
    pub(super) fn place(&self, due: &Due, note: &Note) -> Option<usize> {
        let places = due.places.get(&(note.scope, note.vip.into()))?;
        places.iter().copied().find(|place| {
            self.is_due[*place] && due.drains[*place].departed.was_given(note, &self.rules)
        })
    }
}

/// What came of it so far, by the places of what is due.
#[derive(Default)]
pub(super) struct Ending {
    /// How many connections were ended.
    pub(super) counts: Vec<usize>,
    /// How many were there in the last pass and stay, and why.
    pub(super) stay: BTreeMap<(usize, String), usize>,
    /// What is to be tried again later.
    pub(super) again: BTreeSet<usize>,
    pub(super) errors: BTreeSet<String>,
}

impl Ending {
    /// Ends connections. Returns how many it ended.
    pub(super) fn pass(&mut self, search: &Search, connections: &[(usize, &Connection)]) -> usize {
        let mut ended = 0;
        self.stay.clear();
        for (place, connection) in connections {
            let why = match search.end(connection) {
                Ok(End::Ended) => {
                    self.counts[*place] += 1;
                    ended += 1;
                    continue;
                }
                Ok(End::Stays(why)) => why,
                Ok(End::NotFound) => {
                    "the kernel does not find them by their addresses, which other sockets may have, too"
                        .to_owned()
                }
                // What keeps one from being ended keeps no other.
                Err(error) => {
                    self.failed([*place], error);
                    continue;
                }
            };
            *self.stay.entry((*place, why)).or_default() += 1;
        }
        ended
    }

    pub(super) fn failed(&mut self, places: impl IntoIterator<Item = usize>, error: Error) {
        if error.may_pass() {
            self.again.extend(places);
        }
        self.errors.insert(uncertain(error));
    }
}
