//! The table as it is written, before it is checked.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    endpoint::Endpoint,
    error::{Problem, position},
    path::Path,
};

/// The two ways to write a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    #[serde(default, with = "serde_with::rust::maps_duplicate_key_is_error")]
    pub(super) services: BTreeMap<String, Service>,
    #[serde(default, with = "serde_with::rust::maps_duplicate_key_is_error")]
    pub(super) apps: BTreeMap<String, App>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) backends: Vec<Backend>,
}

/// `"247.221.80.48"`, or `{ ip = "247.221.80.48", port = 6380, weight = 2 }`.
pub(super) struct Backend {
    pub(super) ip: String,
    pub(super) port: Option<i64>,
    pub(super) weight: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    pub(super) cgroup: String,
    #[serde(default, with = "serde_with::rust::maps_duplicate_key_is_error")]
    pub(super) relationships: BTreeMap<String, Relationship>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Relationship {
    pub(super) service: String,
    pub(super) vip: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) protocol: Option<String>,
    #[serde(default)]
    pub(super) endpoint: Endpoint,
}

impl Format {
    /// TOML cannot begin with a brace, JSON tables must.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match without_mark(bytes).trim_ascii_start().first() {
            Some(b'{') => Self::Json,
            _ => Self::Toml,
        }
    }

    pub(super) fn read(self, text: &str) -> Result<Table, Problem> {
        match self {
            Self::Toml => toml::from_str(text).map_err(|error| {
                let (line, column) = position(text, error.span().map_or(0, |span| span.start));
                not_read(error.message()).at(line, column)
            }),
            Self::Json => serde_json::from_str(text).map_err(|error| {
                let message = error.to_string();
                let reason = message.split(" at line ").next().unwrap_or(&message);
                not_read(reason).at(error.line(), error.column().max(1))
            }),
        }
    }
}

/// The text without the byte order mark that some editors put first.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)
}

/// The text, if it is one.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    let bytes = without_mark(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        // The part before the error is valid by definition.
        let good = std::str::from_utf8(good).unwrap_or_default();
        let (line, column) = position(good, good.len());
        Problem::new(
            Path::default(),
            "not UTF-8 text",
            "a table is TOML or JSON text; is this the right file?",
        )
        .at(line, column)
    })
}

fn not_read(reason: &str) -> Problem {
    Problem::new(
        Path::default(),
        reason.replace('\n', ", "),
        "correct this place; `vipnat check` tells whether the table is good",
    )
}

impl<'de> Deserialize<'de> for Backend {
    /// By hand, because an untagged enum could only say "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            ip: String,
            port: Option<i64>,
            weight: Option<i64>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Backend;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IPv4 address in quotes, or a table with ip, port and weight")
            }

            fn visit_str<E>(self, ip: &str) -> Result<Backend, E> {
                Ok(Backend { ip: ip.to_owned(), port: None, weight: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend, A::Error> {
                let Full { ip, port, weight } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Backend { ip, port, weight })
            }
        }

        deserializer.deserialize_any(Either)
    }
}
