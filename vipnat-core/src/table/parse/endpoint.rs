//! Reads the free-form `endpoint` of a relationship as JSON.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::table::key_path::KeyPath;

/// The values that an application reads.
///
/// Deserializing a `serde_json::Value` is not enough. It keeps the last of two equal keys, and turns
/// infinity into null. It keeps the `toml` crate's private form of a date. It takes an object that looks like
/// `serde_json`'s private form of a number for a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint(pub(crate) Option<Arc<Map<String, Value>>>);

/// The key of the table that the `toml` crate makes of a date (toml_datetime, `de.rs`).
const DATE: &str = "$__toml_private_datetime";

/// The key of the table that `serde_json` makes of a number to keep all its digits (`number.rs`).
pub(crate) const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)?.0 {
            Value::Object(endpoint) => Ok(Self(Some(endpoint.into()))),
            other => {
                Err(D::Error::custom(format!("invalid type: {}, expected a table", kind(&other))))
            }
        }
    }
}

/// The kind of a value, for messages. The value itself may be secret.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// Removes keys whose value is null, at every depth, and adds their paths to `out`.
pub(crate) fn leave_out_nulls(
    object: &mut Map<String, Value>,
    path: &KeyPath,
    out: &mut Vec<KeyPath>,
) {
    object.retain(|key, value| {
        let path = path.key(key);
        match value {
            Value::Null => {
                out.push(path);
                return false;
            }
            Value::Object(object) => leave_out_nulls(object, &path, out),
            Value::Array(list) => {
                for (i, value) in list.iter_mut().enumerate() {
                    if let Value::Object(object) = value {
                        leave_out_nulls(object, &path.index(i), out);
                    }
                }
            }
            _ => {}
        }
        true
    });
}

/// Any JSON value, read like an [`Endpoint`].
pub(crate) struct Json(pub(crate) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// The `toml` crate reads larger numbers than TOML requires.
    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Number::from_i128(value).map(Value::from).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Number::from_u128(value).map(Value::from).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if !value.is_finite() {
            return Err(E::custom(format!("{value} is no JSON number")));
        }
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = if key == DATE || key == NUMBER {
                match map.next_value()? {
                    Private::Made(text) if key == DATE => return Ok(text.into()),
                    Private::Made(text) => match text.parse() {
                        Ok(number) => return Ok(Value::Number(number)),
                        Err(_) => text.into(),
                    },
                    Private::Written(value) => value,
                }
            } else {
                let Json(value) = map.next_value()?;
                value
            };
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// The value of a private key: text that a reader made, or a value of the document.
enum Private {
    Made(String),
    Written(Value),
}

impl<'de> Deserialize<'de> for Private {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PrivateVisitor)
    }
}

/// Tells both apart: readers pass text of their own as a `String`, and text of a document never so.
struct PrivateVisitor;

impl<'de> Visitor<'de> for PrivateVisitor {
    type Value = Private;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        JsonVisitor.expecting(f)
    }

    fn visit_string<E>(self, text: String) -> Result<Private, E> {
        Ok(Private::Made(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Private, E> {
        JsonVisitor.visit_str(text).map(Private::Written)
    }

    fn visit_unit<E: Error>(self) -> Result<Private, E> {
        JsonVisitor.visit_unit().map(Private::Written)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Private, E> {
        JsonVisitor.visit_bool(value).map(Private::Written)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Private, E> {
        JsonVisitor.visit_i64(value).map(Private::Written)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Private, E> {
        JsonVisitor.visit_u64(value).map(Private::Written)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Private, E> {
        JsonVisitor.visit_i128(value).map(Private::Written)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Private, E> {
        JsonVisitor.visit_u128(value).map(Private::Written)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Private, E> {
        JsonVisitor.visit_f64(value).map(Private::Written)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Private, A::Error> {
        JsonVisitor.visit_seq(list).map(Private::Written)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Private, A::Error> {
        JsonVisitor.visit_map(map).map(Private::Written)
    }
}
