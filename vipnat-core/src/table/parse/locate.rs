//! From key paths to lines and columns. Checks know objects; messages also give positions.
//!
//! The `toml` crate keeps spans. For JSON, the search in here reads the text once for all problems and
//! parses only the objects on the way to them. Reading the text again for each of 18,000 problems took 43
//! seconds.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::document::Format;
use crate::table::{
    error::{Problem, position},
    key_path::Step,
};

/// The line and column of the value of each problem, or of the nearest parent that is in the text. The text
/// is the value that is `depth` steps below the root.
pub(crate) fn locate(
    text: &str,
    format: Format,
    depth: usize,
    problems: &[Problem],
) -> Vec<Option<(usize, usize)>> {
    let paths: Vec<_> =
        problems.iter().map(|problem| problem.path.steps().get(depth..).unwrap_or(&[])).collect();
    let offsets = match format {
        Format::Toml => toml_offsets(text, &paths),
        Format::Json => json_offsets(text, &paths),
    };
    offsets.into_iter().map(|offset| Some(position(text, offset?))).collect()
}

fn toml_offsets(text: &str, paths: &[&[Step]]) -> Vec<Option<usize>> {
    let root = DeTable::parse(text).ok();
    paths.iter().map(|path| root.as_ref().map(|root| toml_offset(root, path))).collect()
}

fn toml_offset(root: &Spanned<DeTable<'_>>, path: &[Step]) -> usize {
    let mut here = root.span().start;
    let mut table = Some(root.get_ref());
    let mut value = None;
    for step in path {
        let next = match step {
            Step::Key(key) => table.and_then(|table| table.get_key_value(key.as_str())).map(
                // A table is placed at its key or header, any other value at itself.
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

fn json_offsets(text: &str, paths: &[&[Step]]) -> Vec<Option<usize>> {
    let mut search = Search { text, paths, offsets: vec![None; paths.len()] };
    if let Ok(root) = serde_json::from_str::<&RawValue>(text) {
        search.value(root, 0, (0..paths.len()).collect());
    }
    search.offsets
}

/// Descends only into values that some path leads through.
struct Search<'a> {
    text: &'a str,
    paths: &'a [&'a [Step]],
    offsets: Vec<Option<usize>>,
}

impl<'a> Search<'a> {
    /// Visits a value, `depth` steps down, that these paths lead to or through.
    fn value(&mut self, value: &'a RawValue, depth: usize, paths: Vec<usize>) {
        // The raw value borrows from the text, so its distance from the start is its offset.
        let offset = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
        for path in &paths {
            self.offsets[*path] = Some(offset);
        }
        let below = |path: &usize| self.paths[*path].len() > depth;
        let paths: Vec<_> = paths.into_iter().filter(below).collect();
        if !paths.is_empty() {
            let inside = Inside { search: self, depth, paths };
            // Other values than objects and lists have no children, so an error means no match.
            let _ = inside.deserialize(&mut serde_json::Deserializer::from_str(value.get()));
        }
    }

    /// The paths whose next step `is_it`.
    fn along(&self, depth: usize, paths: &[usize], is_it: impl Fn(&Step) -> bool) -> Vec<usize> {
        let leads = |path: &&usize| is_it(&self.paths[**path][depth]);
        paths.iter().filter(leads).copied().collect()
    }
}

/// An object or list that some paths lead through.
struct Inside<'s, 'a> {
    search: &'s mut Search<'a>,
    depth: usize,
    paths: Vec<usize>,
}

impl<'a> DeserializeSeed<'a> for Inside<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Inside<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        let Self { search, depth, paths } = self;
        while let Some(Key(key)) = map.next_key()? {
            let there = search.along(
                depth,
                &paths,
                |step| matches!(step, Step::Key(wanted) if *wanted == key),
            );
            if there.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                search.value(map.next_value()?, depth + 1, there);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { search, depth, paths } = self;
        for index in 0.. {
            let there = search.along(depth, &paths, |step| *step == Step::Index(index));
            if there.is_empty() {
                if list.next_element::<IgnoredAny>()?.is_none() {
                    break;
                }
            } else if let Some(value) = list.next_element()? {
                search.value(value, depth + 1, there);
            } else {
                break;
            }
        }
        Ok(())
    }
}
