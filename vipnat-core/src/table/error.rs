//! What can be wrong with a table, said so that it can be put right.

use std::fmt;

use super::key_path::KeyPath;
use crate::text::shown;

/// One thing wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as keys from the root: `apps.shop.cgroup`. Empty for syntax errors.
    pub(super) path: KeyPath,
    /// Line and column, both from 1; the column in characters.
    pub(super) position: Option<(usize, usize)>,
    /// What is wrong.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(path: KeyPath, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path, position: None, reason: reason.into(), help: help.into() }
    }

    pub(super) fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some((line, column));
        self
    }
}

/// How many problems are kept, located and shown; nobody mends more at once.
pub(super) const SHOWN: usize = 20;

/// The first problems that were found, and how many there are. A table can have a million, each longer
/// than the mistake.
#[derive(Debug, Default)]
pub(super) struct Problems {
    first: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds one, which is only made if it is among the first.
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

    /// How many there are, kept or not.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more
    }

    /// Gives each its place, and puts them in the order of the text.
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

/// A table that was not accepted. Displays as two lines for each problem, at most 20 of them:
/// `FILE:LINE:COLUMN: OBJECT: REASON`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    file: String,
    problems: Vec<Problem>,
    /// How many there are beside those.
    more: usize,
}

impl TableError {
    pub(super) fn new(file: &str, problems: Problems) -> Self {
        let Problems { first, more } = problems;
        Self { file: file.to_owned(), problems: first, more }
    }

    /// A mistake after which no others can be found.
    pub(super) fn one(file: &str, problem: Problem) -> Self {
        Self::new(file, problem.into())
    }

    /// The problems that are shown, at least one and at most 20, in the order of the text.
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

/// Line and column, from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
