//! Programs of other tools, and of other vipnats, on the hooks of cgroups.

mod admission;
mod attached;
mod obstacle;
mod owner;

pub(crate) use self::{
    admission::{Held, Others},
    attached::OnCgroup,
};
