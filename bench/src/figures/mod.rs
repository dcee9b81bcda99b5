//! The measurements.

mod apply;
mod beside;
mod bystanders;
mod change;
mod connect;
mod cpus;
mod fleet;
mod follow;
mod hooks;
mod input;
mod memory;
mod process;
mod progress;
mod reading;
mod run;

pub(crate) use self::{
    fleet::FLEET,
    process::{print_took, resident},
    run::run,
};
