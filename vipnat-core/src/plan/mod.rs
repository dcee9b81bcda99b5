//! How vipnat changes the maps: the difference, and the writes that make it, in their order.
//!
//! | file | purpose |
//! | --- | --- |
//! | `diff` | [`Plan`]: the writes that lead from a [`Snapshot`] to a list of mappings; [`changes`]: the same for people |
//! | `alloc` | free slots and free cursors, given to new lists and new VIPs |
//! | `reclaim` | [`Reclaim`]: the retired slots and their cursors that can be used again |
//! | `steps` | [`Step`]: the order of all these writes, said once |
//! | `entries` | the order of a VIP's entries within a step |
//! | `executor` | [`MapOps`]: maps that can be written; [`execute()`]: carries steps out on them |
//! | `on_snapshot` | a [`Snapshot`] as [`MapOps`], to follow what was written |
//!
//! A command reads the maps, repairs what an interrupted command left, and then plans and executes:
//!
//! ```
//! use std::convert::Infallible;
//! use vipnat_core::{model::{Capacity, Mapping, Snapshot}, plan::{Plan, Reclaim, execute}};
//!
//! // The pinned maps do the same in vipnat; a snapshot is enough to try it.
//! let mut maps = Snapshot::fresh(Capacity::MIN);
//! let mappings: Vec<Mapping> = vec![];
//! let Ok::<_, Infallible>(()) = execute(&Plan::tidy(&maps.clone()).steps(), &mut maps);
//! let Ok::<_, Infallible>(()) = execute(&Reclaim::new(&maps.clone()).steps(), &mut maps);
//! let plan = Plan::new(&maps, &mappings, |_| true).unwrap();
//! let Ok::<_, Infallible>(()) = execute(&plan.steps(), &mut maps);
//! ```
//!
//! A plan touches the entries of the mappings it is given, and of the apps it is given, and no others.
//! It needs the whole snapshot only to find free slots and cursors.
//!
//! [`Snapshot`]: crate::model::Snapshot

mod alloc;
mod diff;
mod entries;
mod executor;
mod on_snapshot;
mod reclaim;
mod steps;
#[cfg(test)]
mod tests;

pub use self::{
    diff::{MappingChange, Plan, changes},
    executor::{MapOps, execute},
    reclaim::Reclaim,
    steps::Step,
};
