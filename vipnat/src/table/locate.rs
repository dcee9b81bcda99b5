//! From a key path to a line and column: the checks speak of objects, people want positions.

use std::{borrow::Cow, collections::HashMap};

use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::position,
    path::{Path, Step},
    raw::Format,
};

/// A table's text, read once for all the places that are asked for.
pub(super) struct Locator<'a> {
    text: &'a str,
    /// Read as TOML, if that is what it is.
    toml: Option<Spanned<DeTable<'a>>>,
}

impl<'a> Locator<'a> {
    pub(super) fn new(text: &'a str, format: Format) -> Self {
        let toml = match format {
            Format::Toml => DeTable::parse(text).ok(),
            Format::Json => None,
        };
        Self { text, toml }
    }

    /// Line and column of the value at `path`, or of what is nearest above it.
    pub(super) fn locate(&self, path: &Path) -> Option<(usize, usize)> {
        let offset = match &self.toml {
            Some(root) => toml_offset(root, path),
            None => json_offset(self.text, path)?,
        };
        Some(position(self.text, offset))
    }
}

fn toml_offset(root: &Spanned<DeTable<'_>>, path: &Path) -> usize {
    let mut here = root.span().start;
    let mut table = Some(root.get_ref());
    let mut value = None;
    for step in path.steps() {
        let next = match step {
            Step::Key(key) => table.and_then(|table| table.get_key_value(key.as_str())).map(
                // A table's own place is its key or header; a value's is the value.
                |(name, next)| match next.get_ref() {
                    DeValue::Table(_) => (name.span().start, next),
                    _ => (next.span().start, next),
                },
            ),
            Step::Index(index) => value
                .and_then(DeValue::as_array)
                .and_then(|array| array.get(*index))
                .map(|next| (next.span().start, next)),
        };
        let Some((start, next)) = next else {
            return here;
        };
        here = start;
        value = Some(next.get_ref());
        table = next.get_ref().as_table();
    }
    here
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
