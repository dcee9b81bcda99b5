//! The mistakes in a table, each with its place, reason and remedy.

use std::fmt;

use super::key_path::KeyPath;
use crate::text::shown;

/// One mistake in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The keys from the root to the value: `apps.shop.cgroup`. Empty for syntax errors.
    pub(super) path: KeyPath,
    /// Line and column, both from 1. Columns count characters.
    pub(super) position: Option<(usize, usize)>,
    /// The reason.
    pub(super) reason: String,
    /// The remedy.
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(path: KeyPath, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path, position: None, reason: reason.into(), help: help.into() }
    }

    /// The same problem, in the object that a table has at this path.
    pub(super) fn below(mut self, path: &[&str]) -> Self {
        self.path = KeyPath::keys(path).join(self.path);
        self
    }

    pub(super) fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some((line, column));
        self
    }
}

/// The largest number of problems that are kept, located and shown.
pub(super) const SHOWN: usize = 20;

/// The first problems that were found, and the number of all. A table can have a million of them, so the
/// others are only counted.
#[derive(Debug, Default)]
pub(super) struct Problems {
    first: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds a problem, and builds it only if it is among the first [`SHOWN`].
    pub(super) fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.first.len() < SHOWN {
            self.first.push(problem());
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The number of all problems, kept or not.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more
    }

    /// Sets the place of each problem, and sorts them by it.
    pub(super) fn place(&mut self, places: impl FnOnce(&[Problem]) -> Vec<Option<(usize, usize)>>) {
        let places = places(&self.first);
        for (problem, place) in self.first.iter_mut().zip(places) {
            problem.position = place;
        }
        self.first.sort_by_key(|problem| problem.position.unwrap_or((usize::MAX, 0)));
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { first: vec![problem], more: 0 }
    }
}

/// The error for a table that is refused. It displays up to 20 problems with two lines each:
/// `FILE:LINE:COLUMN: OBJECT: REASON`, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    file: String,
    problems: Vec<Problem>,
    /// The number of problems that are not in `problems`.
    more: usize,
}

impl TableError {
    pub(super) fn new(file: &str, problems: Problems) -> Self {
        let Problems { first, more } = problems;
        Self { file: file.to_owned(), problems: first, more }
    }

    /// A mistake that ends the reading, so that it comes alone.
    pub(super) fn one(file: &str, problem: Problem) -> Self {
        Self::new(file, problem.into())
    }

    /// The problems that are shown: 1 to 20, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for TableError {}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, problems, more } = self;
        let file = shown(file);
        for (i, problem) in problems.iter().enumerate() {
            let Problem { path, position, reason, help } = problem;
            if i > 0 {
                writeln!(f)?;
            }
            f.write_str(&file)?;
            if let Some((line, column)) = position {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
            write!(f, "{}\n    {}", shown(reason), shown(help))?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, "\n{file}: and {more} more problems"),
        }
    }
}

/// Line and column of a byte offset, both from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
