//! Follows a table: applies it again when its file changes, or when cgroups come and go.

mod cgroup_watch;
mod cgroup_watch_set;
mod error_text;
mod exposed_passwords;
mod file_watch;
mod follower;
mod inbox;
mod input_file;
mod pace;
mod reading;
mod reconciler;
mod report;
mod reporter;
mod retry;
mod schedule;
mod service_manager;
mod source;
mod table_file;

pub(crate) use self::{
    cgroup_watch::CgroupWatch,
    error_text::{InvalidInput, with_reasons},
    exposed_passwords::exposed_passwords,
    file_watch::{FileWatch, WatchEvent},
    follower::Follower,
    inbox::Inbox,
    input_file::{display_name, read_input},
    report::Report,
    service_manager::notify_manager,
    source::FileSource,
    table_file::{cgroup_mount, parse_table},
};
