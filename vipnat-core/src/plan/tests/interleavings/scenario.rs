//! A scenario: tables that follow each other, and the conditions that make it hard.

use vipnat_common::decide::MAX_LOOKUPS;

use super::protocol::Protocol;
use crate::model::Mapping;

/// Tables that follow each other, and the conditions that make it hard.
#[derive(Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) tables: Vec<Vec<Mapping>>,
    /// The first table is there from the start.
    pub(super) applies: Vec<Apply>,
    pub(super) protocol: Protocol,
    /// Each apply attaches a cgroup, which leaves the app of its readers. From then on, no reader begins.
    pub(super) moves: bool,
    /// Readers take each slot for one of their VIP.
    pub(super) ignore_owner: bool,
    /// How many looks of a decision may miss an entry that is there all the time.
    pub(super) misses: u32,
    /// A decision may stay unsettled although some looks found no head while the writer took no step.
    ///
    /// It needs an element that is filled for a VIP that comes, is not linked yet, and that a reader
    /// found under its last key: one look sees that it changed, and the others find nothing.
    pub(super) empty_looks: bool,
}

/// One apply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apply {
    /// Which table.
    pub(super) table: usize,
    /// It ends after so many elements are written, if not by itself.
    pub(super) crash: Option<usize>,
}

impl Scenario {
    /// The tables, one after the other, without any trouble.
    pub(super) fn new<const N: usize>(name: &'static str, tables: [Vec<Mapping>; N]) -> Self {
        Self::of(name, tables.into())
    }

    /// The same of any number of tables.
    pub(super) fn of(name: &'static str, tables: Vec<Vec<Mapping>>) -> Self {
        Self {
            name,
            applies: (1..tables.len()).map(|table| Apply { table, crash: None }).collect(),
            tables,
            protocol: Protocol::Real,
            moves: false,
            ignore_owner: false,
            misses: MAX_LOOKUPS - 1,
            empty_looks: false,
        }
    }
}
