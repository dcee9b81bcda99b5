//! From a key path to a line and column: the checks speak of objects, people want positions.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::{
    error::position,
    path::{Path, Step},
    raw::Format,
};

/// Line and column of the value at `path`, or of what is nearest above it.
pub(super) fn locate(text: &str, format: Format, path: &Path) -> Option<(usize, usize)> {
    let offset = match format {
        Format::Toml => toml_offset(text, path)?,
        Format::Json => json_offset(text, path)?,
    };
    Some(position(text, offset))
}

fn toml_offset(text: &str, path: &Path) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut here = root.span().start;
    let mut value = DeValue::Table(root.into_inner());
    for step in path.steps() {
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
    for step in path.steps() {
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
