//! `vipnat run` and its systemd unit.

mod containers;
mod follow;
mod follow_cgroups;
mod hangs;
mod read_only_run;
mod service;
