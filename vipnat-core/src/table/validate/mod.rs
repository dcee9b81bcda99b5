//! From a table as it is written to a checked one, or to all its mistakes.

mod cgroup;
mod checker;
mod holders;
mod relationship;
mod service;
mod table;
#[cfg(test)]
mod tests;

pub(super) use self::table::{check_links, validate, validate_app, validate_service};
