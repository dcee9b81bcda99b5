//! vipnat as its users meet it: the built program, real hooks, real sockets, on hosts of its own.

mod apply;
mod backend_removed;
mod bad_input;
mod churn;
mod confirm;
mod connect;
mod crash_points;
mod datagrams;
mod follow;
mod growth;
mod import_platform;
mod inspect;
mod intruder;
mod isolation;
mod machine;
mod privileges;
mod replacing;
mod round_robin;
mod rules;
mod rules_import;
mod rules_round_trip;
mod runtime_hook;
mod scene;
mod service;
mod sockets;
mod upgrade;
