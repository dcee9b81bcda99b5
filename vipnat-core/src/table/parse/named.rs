//! What tables are made of: texts, and objects by name.

use std::{borrow::Cow, collections::BTreeSet, fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// A text, where it stands in the table; a copy only if that says it with escapes.
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

/// Objects, in the order of their names, no two with one name.
///
/// `CAREFUL` finds the second of two equal names where it stands, for the message; otherwise that there
/// are two is seen at the end, where the order shows it, at a fraction of the cost.
#[derive(Debug)]
pub(crate) struct Named<'a, T, const CAREFUL: bool = false> {
    /// As they stand in the table.
    objects: Vec<(Text<'a>, T)>,
    /// Their order: numbers, since the objects are large and not to be moved.
    order: Vec<u32>,
}

impl<'a, T, const CAREFUL: bool> Named<'a, T, CAREFUL> {
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

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
                // Stable, since that is linear in names that are sorted or count upwards.
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
