//! A scenario: tables that follow each other, and the conditions that make the change hard.

use vipnat_common::decide::MAX_LOOKUPS;

use super::protocol::Protocol;
use crate::model::Mapping;

/// Tables that follow each other, and the conditions that make the change hard.
#[derive(Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) tables: Vec<Vec<Mapping>>,
    /// The maps hold the first table from the start.
    pub(super) applies: Vec<Apply>,
    pub(super) protocol: Protocol,
    /// An agent makes the changes: it keeps the maps in memory. Without it, each change is an apply of its own.
    pub(super) agent: Option<Agent>,
    /// Each apply attaches a cgroup, which leaves the readers' app. From then on, no reader begins.
    pub(super) moves: bool,
    /// Readers accept each slot as one of their VIP.
    pub(super) ignore_owner: bool,
    /// The number of looks of a decision that may miss an entry which is there all the time.
    pub(super) misses: u32,
    /// A decision may stay unsettled although some looks found no entry while the writer took no step.
    ///
    /// The writer fills an element for a new VIP, and has not linked it yet. A reader found the element under
    /// its last key. One attempt of that reader sees the change, and the others find nothing. The same happens if
    /// the VIP of the reader goes, or its limit for these calls, and another VIP gets the element.
    pub(super) empty_attempts: bool,
}

/// How an agent reclaims slots. It waits while it makes changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    /// The number of changes that are made during each wait.
    pub(super) changes: usize,
    /// It empties what is retired when the wait is over. That is wrong: the wait may have begun before.
    pub(super) looks_late: bool,
}

/// One apply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apply {
    /// The index of its table.
    pub(super) table: usize,
    /// The number of written elements after which it crashes; `None` if it doesn't.
    pub(super) crash: Option<usize>,
}

impl Scenario {
    /// The tables, one after the other, without faults.
    pub(super) fn new<const N: usize>(name: &'static str, tables: [Vec<Mapping>; N]) -> Self {
        Self::of(name, tables.into())
    }

    /// The same for any number of tables.
    pub(super) fn of(name: &'static str, tables: Vec<Vec<Mapping>>) -> Self {
        Self {
            name,
            applies: (1..tables.len()).map(|table| Apply { table, crash: None }).collect(),
            tables,
            protocol: Protocol::Real,
            agent: None,
            moves: false,
            ignore_owner: false,
            misses: MAX_LOOKUPS - 1,
            empty_attempts: false,
        }
    }
}
