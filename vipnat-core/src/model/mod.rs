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
    mapping::{Role, Rule, Turn},
    names::{NameIndex, Names},
    place::Place,
    removed_backend::{Departed, Rules, departed, unknown},
    snapshot::{ByApp, Snapshot, indices},
};
