//! Cgroups: their ids and paths, and the processes in them.

mod by_id;
mod find;
mod open_tree;
mod opened;
mod paths;
mod process;
mod proof;
mod tree;
mod unseen;

pub(crate) use self::{
    find::{Names, find},
    open_tree::OpenTree,
    paths::Paths,
    process::{enter, of_process},
    tree::Tree,
};
