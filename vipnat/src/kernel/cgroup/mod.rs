//! Cgroups: which has which id, and where it is.

mod by_id;
mod find;
mod paths;
mod process;
mod tree;

pub(crate) use self::{
    find::{Names, find},
    paths::Paths,
    process::{enter, of_process},
    tree::Tree,
};
