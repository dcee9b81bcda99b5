//! What can be wrong with a table, said so that it can be put right.

use std::fmt;

use super::path::Path;

/// One thing wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as keys from the root: `apps.shop.cgroup`. Empty for syntax errors.
    pub(super) path: Path,
    /// Line and column, both from 1; the column in characters.
    pub(super) position: Option<(usize, usize)>,
    /// What is wrong.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(path: Path, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path, position: None, reason: reason.into(), help: help.into() }
    }

    pub(super) fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some((line, column));
        self
    }
}

/// How many problems are located and shown; nobody mends more at once.
pub(super) const SHOWN: usize = 20;

/// A table that was not accepted. Displays as two lines for each problem, at most 20 of them:
/// `FILE:LINE:COLUMN: OBJECT: REASON`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    file: String,
    problems: Vec<Problem>,
}

impl TableError {
    pub(super) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), problems }
    }

    /// The problems, in the order in which they were found; at least one. Those beyond the ones
    /// shown have no position.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for TableError {}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(SHOWN).enumerate() {
            let Problem { path, position, reason, help } = problem;
            if i > 0 {
                writeln!(f)?;
            }
            f.write_str(&self.file)?;
            if let Some((line, column)) = position {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
            write!(f, "{reason}\n    {help}")?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more problems", self.file),
        }
    }
}

/// Line and column, from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
