//! Building blocks of a table as it is written: borrowed text, and objects by name.

use std::{borrow::Cow, collections::BTreeSet, fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// A string, borrowed from the document, or copied if it is written with escapes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(text.into())
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(text.to_owned().into())
            }

            fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Text<'a> {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// Objects in the order of their names. A name that comes twice is an error.
///
/// `CAREFUL` detects the second of two equal names at its place, for the message. Without it, sorting
/// finds them at the end, which is much cheaper.
#[derive(Debug)]
pub(crate) struct Named<'a, T, const CAREFUL: bool = false> {
    /// In the order of the document.
    objects: Vec<(Text<'a>, T)>,
    /// Indices into `objects` in the order of names. The objects are too large to be moved.
    order: Vec<u32>,
}

impl<'a, T, const CAREFUL: bool> Named<'a, T, CAREFUL> {
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.order.iter().map(|number| {
            let (name, object) = &self.objects[*number as usize];
            (&**name, object)
        })
    }
}

impl<T, const CAREFUL: bool> Default for Named<'_, T, CAREFUL> {
    fn default() -> Self {
        Self { objects: Vec::new(), order: Vec::new() }
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>, const CAREFUL: bool> Deserialize<'de>
    for Named<'a, T, CAREFUL>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T, const CAREFUL: bool>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const CAREFUL: bool> Visitor<'de> for NamedVisitor<T, CAREFUL> {
            type Value = Named<'de, T, CAREFUL>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let duplicate = || A::Error::custom("invalid entry: found duplicate key");
                let mut names = BTreeSet::new();
                let mut objects = Vec::new();
                while let Some((name, object)) = map.next_entry::<Text<'de>, T>()? {
                    if CAREFUL && !names.insert(name.clone()) {
                        return Err(duplicate());
                    }
                    objects.push((name, object));
                }
                // A stable sort takes linear time if names are sorted or count upwards.
                let name = |number: &u32| &objects[*number as usize].0;
                let mut order: Vec<_> = (0..objects.len() as u32).collect();
                order.sort_by(|one, other| name(one).cmp(name(other)));
                if order.windows(2).any(|two| name(&two[0]) == name(&two[1])) {
                    return Err(duplicate());
                }
                Ok(Named { objects, order })
            }
        }

        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}
