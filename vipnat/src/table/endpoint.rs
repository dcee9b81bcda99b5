//! The free-form part of a relationship, as JSON.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::path::Path;

/// What an application reads back, read with more care than `serde_json::Value` itself takes: it
/// keeps the last of two equal keys, makes null of infinity, and shows what the `toml` crate makes
/// of a date.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint(pub(super) Option<Arc<Map<String, Value>>>);

/// The only key of the table that the `toml` crate makes of a date (toml_datetime, `de.rs`).
const DATE: &str = "$__toml_private_datetime";

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

/// What a value is, for messages: what it says may be secret.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// Takes out the keys whose value is null, also below others, and lists them.
pub(super) fn leave_out_nulls(object: &mut Map<String, Value>, path: &Path, out: &mut Vec<Path>) {
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

/// Any JSON, read with the same care.
pub(super) struct Json(pub(super) Value);

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
            let Json(value) = map.next_value()?;
            if key == DATE {
                return Ok(value);
            }
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}
