//! The contents of the kernel's maps, present and desired, and the changes between them.
//!
//! - [`Mapping`], [`BackendSet`] and [`Backend`]: one VIP of one app, in the terms of the data path.
//! - [`Snapshot`]: the present contents of the maps. [`Desired`]: the contents after an apply.
//! - [`Capacity`] and [`MapFull`]: sizes of maps, and the error if one is too small.
//! - [`Change`]: one difference, for people. [`NameIndex`]: the names that the kernel does not keep.
//! - [`RemovedBackend`]: a backend whose connections an apply may have to end.

mod capacity;
mod change;
mod desired;
mod full;
mod mapping;
mod name_lines;
mod names;
mod place;
mod removed_backend;
mod snapshot;

pub use self::{
    capacity::Capacity,
    change::Change,
    desired::{Desired, DesiredApp},
    full::MapFull,
    mapping::{Backend, BackendSet, Mapping},
    names::{NameIndex, Names},
    place::Place,
    removed_backend::{Mappings, RemovedBackend, removed_backends, vips_without_policy},
    snapshot::{ByApp, Snapshot, indices},
};
