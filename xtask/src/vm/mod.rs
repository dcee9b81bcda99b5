//! `cargo xtask vm`: the integration tests in virtual machines, kernel by kernel.

mod image;
mod kernel;
mod machine;
mod packages;
mod report;
mod run;
mod suite;
mod tools;

pub(crate) use self::run::Vm;
