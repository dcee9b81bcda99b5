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
    /// Each apply attaches a cgroup, which leaves the readers' app. From then on, no reader begins.
    pub(super) moves: bool,
    /// Readers accept each slot as one of their VIP.
    pub(super) ignore_owner: bool,
    /// The number of looks of a decision that may miss an entry which is there all the time.
    pub(super) misses: u32,
    /// A decision may stay unsettled although some looks found no head while the writer took no step.
    ///
    /// The writer fills an element for a new VIP, and has not linked it yet. A reader found the element under
    /// its last key. One attempt of that reader sees the change, and the others find nothing.
    pub(super) empty_attempts: bool,
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
            moves: false,
            ignore_owner: false,
            misses: MAX_LOOKUPS - 1,
            empty_attempts: false,
        }
    }
}
