//! The command line: one file for each verb.

mod apply;
mod attach;
mod check;
mod command;
mod describe;
mod env;
mod exec;
mod export;
mod flush;
mod import;
mod inherited;
mod list;
mod managed;
mod notation;
mod output;
mod run;
mod table;
mod vip;

pub use self::command::main;
