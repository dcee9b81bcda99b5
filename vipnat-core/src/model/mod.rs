//! What the maps hold, what they should hold, and what people are told of the difference.

mod capacity;
mod change;
mod desired;
mod full;
mod mapping;
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
    removed_backend::{Mappings, RemovedBackend, removed_backends, unknown},
    snapshot::{ByApp, Snapshot, indices},
};
