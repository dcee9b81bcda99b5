//! Apps in the state directory: their links, and the switch that turns their translation on.

mod app;
mod attach;
mod list;
mod on_cgroup;
mod release;
mod stamp;
mod swap_programs;

pub(crate) use self::{
    app::{AttachedApp, PinnedApp},
    attach::{attach, claim, hand_over, reserve},
    list::{
        app_ids, cgroups_of, current, find, list, list_one, read, read_app, read_links, read_one,
        unknown,
    },
    release::{release, release_all, release_gone, release_stray, remove},
    stamp::{Stamp, Tick},
    swap_programs::swap_programs,
};
