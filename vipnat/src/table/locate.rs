//! From a key path to a line and column: the checks speak of objects, people want positions.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::raw::Format;

/// Keys and indices from the root of the table to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// A path made of keys.
    pub(super) fn keys(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Line and column of the value at `path`, or of what is nearest above it.
pub(super) fn locate(text: &str, format: Format, path: &Path) -> Option<(usize, usize)> {
    let offset = match format {
        Format::Toml => toml_offset(text, path)?,
        Format::Json => json_offset(text, path)?,
    };
    Some(position(text, offset))
}

/// Line and column, from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn toml_offset(text: &str, path: &Path) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut here = root.span().start;
    let mut value = DeValue::Table(root.into_inner());
    for step in &path.0 {
        let next = match (step, value) {
            (Step::Key(key), DeValue::Table(mut table)) => {
                let Some((name, next)) = table.remove_entry(key.as_str()) else {
                    return Some(here);
                };
                // A table's own place is its key or header; a value's is the value.
                here = match next.get_ref() {
                    DeValue::Table(_) => name.span().start,
                    _ => next.span().start,
                };
                next
            }
            (Step::Index(index), DeValue::Array(array)) => {
                let Some(next) = array.into_iter().nth(*index) else {
                    return Some(here);
                };
                here = next.span().start;
                next
            }
            _ => return Some(here),
        };
        value = next.into_inner();
    }
    Some(here)
}

fn json_offset(text: &str, path: &Path) -> Option<usize> {
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for step in &path.0 {
        let next = match step {
            Step::Key(key) => serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(value.get())
                .ok()
                .and_then(|object| object.get(key.as_str()).copied()),
            Step::Index(index) => serde_json::from_str::<Vec<&RawValue>>(value.get())
                .ok()
                .and_then(|array| array.get(*index).copied()),
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    // The raw value borrows from the text, so its distance from the start is its offset.
    Some(value.get().as_ptr() as usize - text.as_ptr() as usize)
}
