//! The cases, by topic.

mod tcp;

use super::Case;

/// All cases; those that wait long come first.
pub fn all() -> Vec<&'static Case> {
    [tcp::CASES].into_iter().flatten().collect()
}
