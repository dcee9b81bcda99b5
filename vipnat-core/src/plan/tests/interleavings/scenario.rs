//! A scenario: tables that follow each other, the crashes between them, and the protocol of writes.

use vipnat_common::decide::MAX_LOOKUPS;

use super::writer::{Apply, Protocol};
use crate::model::Mapping;

/// Tables that follow each other, and what is done to make it hard.
#[derive(Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) tables: Vec<Vec<Mapping>>,
    /// The first table is there from the start.
    pub(super) applies: Vec<Apply>,
    pub(super) protocol: Protocol,
    /// Readers take each slot for their VIP's.
    pub(super) ignore_owner: bool,
    /// How many looks of a decision may miss what is there all the time.
    pub(super) misses: u32,
}

impl Scenario {
    pub(super) fn new<const N: usize>(name: &'static str, tables: [Vec<Mapping>; N]) -> Self {
        Self {
            name,
            tables: tables.into(),
            applies: (1..N).map(|table| Apply { table, crash: None }).collect(),
            protocol: Protocol::Real,
            ignore_owner: false,
            misses: MAX_LOOKUPS - 1,
        }
    }
}
