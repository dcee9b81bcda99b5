//! `vipnat run` and its systemd unit.

mod beside_run;
mod containers;
mod follow;
mod follow_cgroups;
mod followed;
mod foreign_hands;
mod hangs;
mod keeps_its_state;
mod random_table;
mod read_only_run;
mod service;
