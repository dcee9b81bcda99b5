//! Remarks about lines of rules.

use std::fmt;

use crate::text::shown;

/// A remark about a line of rules. Displays `LINE: TEXT`, then the reason and the remedy on lines of their
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) reason: String,
    pub(super) help: String,
}

impl Remark {
    pub(super) fn new(
        line: usize,
        text: &str,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let text = text.trim();
        let text = text[..text.floor_char_boundary(LONGEST)].to_owned();
        Self { line, text, reason: reason.into(), help: help.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, text, reason, help } = self;
        write!(f, "{line}: {}\n    {}", shown(text), shown(reason))?;
        if help.is_empty() { Ok(()) } else { write!(f, "\n    {}", shown(help)) }
    }
}

/// The largest part of a line that is repeated, in bytes.
const LONGEST: usize = 200;
