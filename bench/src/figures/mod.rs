//! The measurements.

mod apply;
mod beside;
mod bystanders;
mod connect;
mod cpus;
mod fleet;
mod follow;
mod hooks;
mod memory;
mod process;
mod progress;
mod run;

pub(crate) use self::{fleet::FLEET, process::print_took, run::run};
