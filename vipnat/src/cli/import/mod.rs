//! `vipnat import`: makes tables from PLATFORM_RELATIONSHIPS or iptables rules.

mod command;
mod common;
mod iptables;
mod platform;

pub(crate) use self::command::{Args, run};
