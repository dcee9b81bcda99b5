//! Objects by name, made for the relationships of an app, of which there can be very many.

use std::{collections::BTreeMap, fmt, ops::Index};

/// Objects in the order of their names; made once, then read.
///
/// All names lie in one text, one after the other: a `String` for each would take longer to make and to
/// drop than all the rest of a table.
#[derive(Clone, PartialEq)]
pub struct ByName<T> {
    names: String,
    entries: Vec<Entry<T>>,
}

#[derive(Clone, PartialEq)]
struct Entry<T> {
    /// Where in the names its own begins and ends.
    name: (u32, u32),
    object: T,
}

impl<T> ByName<T> {
    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The object of a name.
    pub fn get(&self, name: &str) -> Option<&T> {
        let found = self.entries.binary_search_by(|entry| self.name_of(entry).cmp(name));
        found.ok().map(|at| &self.entries[at].object)
    }

    /// The names and objects.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|entry| (self.name_of(entry), &entry.object))
    }

    /// The same, with objects that can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        let Self { names, entries } = self;
        entries.iter_mut().map(|Entry { name, object }| (slice(names, *name), object))
    }

    /// The objects.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.object)
    }

    pub(super) fn with_capacity(objects: usize) -> Self {
        Self { names: String::new(), entries: Vec::with_capacity(objects) }
    }

    /// Adds an object, whose name must come after all others.
    pub(super) fn push(&mut self, name: &str, object: T) {
        debug_assert!(self.entries.last().is_none_or(|last| self.name_of(last) < name));
        let start = self.names.len();
        self.names.push_str(name);
        // No input is so long.
        let name = (start as u32, self.names.len() as u32);
        self.entries.push(Entry { name, object });
    }

    /// The name of the object with this number.
    pub(super) fn name(&self, number: usize) -> &str {
        self.name_of(&self.entries[number])
    }

    fn name_of(&self, entry: &Entry<T>) -> &str {
        slice(&self.names, entry.name)
    }
}

fn slice(names: &str, (start, end): (u32, u32)) -> &str {
    &names[start as usize..end as usize]
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> From<BTreeMap<String, T>> for ByName<T> {
    fn from(objects: BTreeMap<String, T>) -> Self {
        let mut by_name = Self::with_capacity(objects.len());
        for (name, object) in objects {
            by_name.push(&name, object);
        }
        by_name
    }
}

impl<T> Index<&str> for ByName<T> {
    type Output = T;

    fn index(&self, name: &str) -> &T {
        self.get(name).expect("an object of this name")
    }
}

impl<T: fmt::Debug> fmt::Debug for ByName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_has_what_a_map_has(map: BTreeMap<String, u8>, other: String) {
            let mut by_name = ByName::from(map.clone());
            proptest::prop_assert_eq!(by_name.len(), map.len());
            proptest::prop_assert_eq!(format!("{by_name:?}"), format!("{map:?}"));
            proptest::prop_assert!(by_name.values().eq(map.values()));
            for name in map.keys().chain([&other]) {
                proptest::prop_assert_eq!(by_name.get(name), map.get(name));
            }
            for (_, value) in by_name.iter_mut() {
                *value = value.wrapping_add(1);
            }
            proptest::prop_assert_eq!(by_name == map.clone().into(), map.is_empty());
        }
    }
}
