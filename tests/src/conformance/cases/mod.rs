//! The cases, by topic.

mod clients;
mod tcp;

use super::Case;

/// All cases; those that wait long come first.
pub fn all() -> Vec<&'static Case> {
    [tcp::CASES].iter().chain(clients::CASES).copied().flatten().collect()
}
