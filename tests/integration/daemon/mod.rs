//! `vipnat run` and its systemd unit.

mod containers;
mod follow;
mod follow_cgroups;
mod followed;
mod hangs;
mod keeps_its_state;
mod random_table;
mod read_only_run;
mod service;
