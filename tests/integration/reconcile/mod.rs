//! Tables become state: apply, crashes, damage, upgrades and removed backends.

mod apply;
mod cgroup_names;
mod crash_points;
mod damaged;
mod disconnect;
mod disconnect_namespaces;
mod drain;
mod growth;
mod layout_3;
mod many;
mod no_connect_fails;
mod others;
mod out_of_view;
mod pending_disconnects;
mod policy;
mod removed_backend;
mod state_path;
mod upgrade;
