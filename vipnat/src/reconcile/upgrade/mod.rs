//! Takes over the state of another build, of another layout, or with maps that are too small.

mod migrate;
mod swap_programs;
mod take_over;

pub(crate) use self::{
    migrate::migrate,
    take_over::{take_over, upgrade},
};
