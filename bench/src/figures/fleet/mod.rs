//! Figure 5: costs on a machine with thousands of apps and cgroups.
//!
//! The figure measures no single connects. It measures commands, and the time of an `attach` beside them, for
//! which a container waits.

mod context;
mod ending;
mod following;
mod ground;
mod listing;
mod measure;
mod patterns;
mod resting;
mod starting;

pub(crate) use self::context::FLEET;
use self::context::{Fleet, apps_with, grouped};
pub(super) use self::measure::measure;
