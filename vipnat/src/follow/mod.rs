//! Follows a table: notices changes of its file and of cgroups, and makes them.

mod cgroup_places;
mod cgroup_watch;
mod exposed;
mod follower;
mod inbox;
mod input;
mod pace;
mod reading;
mod report;
mod schedule;
mod source;
mod watch;

pub(crate) use self::{
    cgroup_watch::CgroupWatch,
    exposed::exposed,
    follower::{Follower, notify_manager},
    inbox::Inbox,
    input::{InvalidInput, cgroup_mount, display_name, parse_table, read_input, with_reasons},
    report::Report,
    source::FileSource,
    watch::{Watch, WatchEvent},
};
