//! Makes the kernel match a table, and reads the state back.
//!
//! `session` is the facade. A change goes through `resolve` (the table's cgroups), `upgrade` (state of
//! another build), `observe` and `recover` (the present state), `prepare` with `diff` (the change as a value)
//! and `execute`. `preview` does the same without executing. `live` makes later changes at the cost of what they
//! touch.

mod app_cgroups;
mod app_ids;
mod apply;
mod attach_apps;
mod attach_by_hand;
mod cgroup_view;
mod claims;
mod context;
mod diff;
mod disconnect;
mod execute;
mod flush;
mod follow_cgroups;
mod holders;
mod live;
mod observe;
mod outcome;
mod prepare;
mod preview;
mod recover;
mod repair_pins;
mod resolve;
mod review;
mod session;
mod state_copy;
mod status;
mod upgrade;

pub use self::{
    cgroup_view::CgroupView,
    follow_cgroups::NewCgroup,
    holders::CgroupHolders,
    live::{Live, Reclaimable, Reclaiming, Review},
    outcome::{Applied, Attached, Connections, Drained, Flushed, FollowedCgroups, LiveCgroups},
    resolve::MissingCgroup,
    review::{LinkDifference, LinkFault, LinkReview, ReviewedLinks},
    session::Session,
    status::{ListedApp, ListedCgroup, ListedVip, Listing},
};
