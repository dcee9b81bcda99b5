//! Figure 5: what it costs that a machine has thousands of apps and cgroups.
//!
//! Nothing here is about single connects. It is about commands, and about what an `attach`, for which a
//! container waits, takes beside them.

mod context;
mod ending;
mod following;
mod ground;
mod listing;
mod measure;
mod patterns;

pub(crate) use self::context::FLEET;
use self::context::{Fleet, grouped};
pub(super) use self::measure::measure;
