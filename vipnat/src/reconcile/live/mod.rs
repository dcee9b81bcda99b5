//! The state that an agent keeps between changes, so that a change costs what changes.
//!
//! A full apply makes [`Live`]. From then on, `change` plans the touched VIPs alone, by the same planner and
//! the same steps as an apply, and `moved_apps` looks at the cgroups of the touched apps alone. `reclaim`
//! frees retired slots while nothing else is to be done. `review` reads the maps back and compares.
//!
//! Each of them takes the lock of the state directory, and first checks that nobody else changed the state
//! ([`Generation`](crate::state::state_dir::Generation)). If anything is not as expected, it asks for a full
//! apply, which reads everything back.

mod change;
mod moved_apps;
mod reclaim;
mod review;
mod state;

pub(crate) use self::{
    change::change,
    reclaim::{begin_reclaim, cancel_reclaim, end_reclaim},
    review::review,
};
pub use self::{
    reclaim::{Reclaimable, Reclaiming},
    review::Review,
    state::Live,
};
