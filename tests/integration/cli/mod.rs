//! The commands: their input, their output, and the input that they refuse.

mod bad_input;
mod check;
mod confirm;
mod exec;
mod exported_rules;
mod import_platform;
mod inspect;
mod list;
mod machine;
mod platform_shapes;
mod printed;
mod proven_cgroup;
mod reading;
mod rules;
mod rules_beside;
mod rules_beside_packets;
mod rules_import;
mod rules_round_trip;
mod runtime_hook;
