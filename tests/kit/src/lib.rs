//! Fixtures for tests and demos: hosts, apps and backends on one machine, and the program under test.
//!
//! All fixtures need root, panic rather than return errors, and clean up in `Drop`. If SIGKILL ends a run,
//! the next run removes its leftovers ([`sweep`]).

mod app;
mod backend;
pub mod bpf;
mod cgroup;
mod cgroup_removal;
mod churn;
mod command;
mod disturbance;
pub mod faults;
mod following;
mod held;
pub mod intrusion;
mod jail;
mod leftovers;
mod load;
mod mounts;
mod netns;
mod network;
mod panics;
mod postgres;
pub mod probe;
mod programs;
mod server;
mod session;
mod shared;
pub mod state;
mod systemd;
mod this_machine;
mod vipnat;
pub mod vm;

pub use app::App;
pub use backend::Backend;
pub use cgroup::Cgroup;
pub use churn::{Churn, Churned, Soaked};
pub use command::{CommandExt, Outcome, outcome};
pub use following::Following;
pub use held::Held;
pub use jail::Jail;
pub use leftovers::{TEST_PREFIX, sweep, test_name};
pub use load::{Load, Tally};
pub use netns::{NetNs, set_lo_up};
pub use network::Network;
pub use panics::panics;
pub use postgres::{Database, Postgres};
pub use probe::Report;
pub use programs::{client_file, copy_program, installed, program};
pub use server::Server;
pub use session::Session;
pub use shared::Shared;
pub use systemd::Systemd;
pub use this_machine::{emulated, left_out, not_run, not_run_as, patient};
pub use vipnat::Vipnat;
