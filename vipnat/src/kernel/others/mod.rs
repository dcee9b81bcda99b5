//! Programs of other tools on the hooks of the cgroups that vipnat attaches to.

mod admission;
mod obstacle;
mod owner;

pub(crate) use self::admission::{Held, Others};
