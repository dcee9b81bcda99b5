//! How a table becomes state: apply, crashes, damage, upgrades and removed backends.

mod apply;
mod backend_removed;
mod crash_points;
mod damaged;
mod ending;
mod ending_later;
mod growth;
mod many;
mod others;
mod out_of_view;
mod state_path;
mod upgrade;
