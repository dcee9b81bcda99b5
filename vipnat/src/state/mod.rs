//! What is kept between commands: the pinned state, and the files beside it.

pub(crate) mod links;
pub(crate) mod name_index;
pub(crate) mod pending_disconnects;
pub(crate) mod run_dir;
pub(crate) mod run_lock;
pub(crate) mod staging;
pub(crate) mod state_dir;
pub(crate) mod state_path;
