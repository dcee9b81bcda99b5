//! How vipnat changes the maps: it computes the difference, then the writes that make it, then their order.
//!
//! | file | purpose |
//! | --- | --- |
//! | `diff` | [`Plan`]: the writes that lead from a [`Snapshot`] to a list of mappings |
//! | `changes` | [`changes()`]: the same for people |
//! | `alloc`, `elements` | find free slots for new slot lists, and free cursors for new VIPs |
//! | `live_maps` | [`LiveMaps`]: plans for a few VIPs of maps that vipnat follows |
//! | `slot_use`, `vip_index` | the indices of live maps: the use of slots and cursors; the entries of each VIP |
//! | `reclaim` | [`Reclaim`]: the retired slots and their cursors that can be used again |
//! | `steps` | [`Step`]: the order of all these writes |
//! | `entries` | the order of a VIP's entries within a step |
//! | `executor` | [`MapOps`]: maps that can be written; [`execute()`]: carries steps out on them |
//! | `on_snapshot`, `on_live_maps` | a [`Snapshot`] and [`LiveMaps`] as [`MapOps`], which repeat the writes in memory |
//!
//! A command reads the maps and repairs the leftovers of an interrupted command. Then it plans and executes:
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
//! A plan touches only the entries of the given mappings and of the given apps. It needs the whole snapshot
//! only to find free slots and cursors.
//!
//! [`Snapshot`]: crate::model::Snapshot

mod alloc;
mod changes;
mod diff;
mod elements;
mod entries;
mod executor;
mod live_maps;
mod on_live_maps;
mod on_snapshot;
mod reclaim;
mod slot_use;
mod steps;
#[cfg(test)]
mod tests;
mod vip_index;

pub use self::{
    changes::{MappingChange, changes},
    diff::Plan,
    executor::{MapOps, execute},
    live_maps::LiveMaps,
    reclaim::Reclaim,
    steps::Step,
};
