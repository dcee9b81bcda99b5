//! What the program `intruder` prints: one JSON object a line.

use serde::{Deserialize, Serialize};

/// Something that only the machine's root may do, and what the kernel said to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// What was tried.
    pub what: String,
    /// On what.
    pub on: String,
    /// `OK`, the name of the error of the first call that failed, or what was found.
    pub said: String,
}

impl Attempt {
    /// Reads a line of the intruder.
    pub fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the attempt {line}"))
    }
}
