//! Wrong input as an error, and the text of an error with its causes.

use std::fmt;

use anyhow::Error;
use vipnat_core::{table::TableError, text::shown};

/// The input is wrong; the program ends with exit status 2. Other failures end with 1.
#[derive(Debug)]
pub(crate) struct InvalidInput(pub(crate) String);

impl std::error::Error for InvalidInput {}

impl fmt::Display for InvalidInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes an error and its causes on one line. Only lists of mistakes have several lines. Some errors of
/// libraries repeat their cause at the end; it is not written twice.
pub(crate) fn with_reasons(error: &Error) -> String {
    let mut text = String::new();
    for reason in error.chain() {
        let is_list = reason.is::<TableError>() || reason.is::<InvalidInput>();
        let reason = reason.to_string();
        let reason = if is_list { reason } else { shown(&reason).into_owned() };
        if text.is_empty() {
            text = reason;
        } else if !text.ends_with(&reason) {
            text = text + ": " + &reason;
        }
    }
    text
}
