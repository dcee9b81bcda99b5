//! Follows a table: applies it again when its source changes, or when cgroups come and go.
//!
//! A `Source` tells of tables and changes, such as a `FileSource`. The `Follower` is the loop that makes
//! the kernel follow them.

mod cgroup_watch;
mod cgroup_watch_set;
mod file;
mod follower;
mod inbox;
mod pace;
mod reading;
mod reconciler;
mod report;
mod reporter;
mod retry;
mod schedule;
mod service_manager;
mod source;

pub(crate) use self::{
    cgroup_watch::CgroupWatch,
    file::FileSource,
    follower::Follower,
    inbox::{Inbox, News},
    report::Report,
    service_manager::notify_manager,
    source::Source,
};
