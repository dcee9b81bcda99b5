//! Follows a table: applies it again when its file changes, or when cgroups come and go.

mod cgroup_watch;
mod cgroup_watch_set;
mod file_watch;
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
    file_watch::{FileWatch, WatchEvent},
    follower::Follower,
    inbox::Inbox,
    report::Report,
    service_manager::notify_manager,
    source::FileSource,
};
