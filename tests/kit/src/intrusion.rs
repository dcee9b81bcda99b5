//! The output of the program `intruder`: one JSON object a line.

use serde::{Deserialize, Serialize};

/// An attempt at an action that only the machine's root may take, and the kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// The action.
    pub what: String,
    /// The object of the action.
    pub on: String,
    /// `OK`, the name of the error of the first call that failed, or the result of a search.
    pub said: String,
}

impl Attempt {
    /// Reads a line of the intruder.
    pub fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the attempt {line}"))
    }
}
