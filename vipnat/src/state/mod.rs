//! State that outlives a command: the pinned state on bpffs, and its files in `/run/vipnat`.

pub(crate) mod app_dirs;
mod contents;
pub(crate) mod links;
mod lock_file;
pub(crate) mod name_index;
pub(crate) mod pending_disconnects;
pub(crate) mod remove;
pub(crate) mod run_dir;
pub(crate) mod run_lock;
pub(crate) mod staging;
pub(crate) mod state_dir;
pub(crate) mod state_path;
