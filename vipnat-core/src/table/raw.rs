//! The table as it is written, before it is checked.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{
    endpoint::{Endpoint, NUMBER},
    error::{Problem, position},
    named::{Named, Text},
    path::Path,
};
use crate::text::may_be_secret;

/// The two ways to write a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// Read as `Table<true>`, which takes longer, only to say what is wrong: see [`Named`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table of `services` and `apps`")]
pub(super) struct Table<'a, const CAREFUL: bool = false> {
    #[serde(borrow, default)]
    pub(super) services: Named<'a, Service<'a>, CAREFUL>,
    #[serde(borrow, default)]
    pub(super) apps: Named<'a, App<'a, CAREFUL>, CAREFUL>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `backends`")]
pub(super) struct Service<'a> {
    #[serde(borrow)]
    pub(super) backends: Vec<Backend<'a>>,
    #[serde(borrow)]
    pub(super) select: Option<Text<'a>>,
    #[serde(borrow, rename = "udp-pinning")]
    pub(super) udp_pinning: Option<Text<'a>>,
    #[serde(borrow, rename = "on-backend-removed")]
    pub(super) on_backend_removed: Option<Text<'a>>,
    #[serde(rename = "drain-seconds")]
    pub(super) drain_seconds: Option<i64>,
}

/// `"247.221.80.48"`, or `{ ip = "247.221.80.48", port = 6380, weight = 2 }`.
#[derive(Debug)]
pub(super) struct Backend<'a> {
    pub(super) ip: Text<'a>,
    pub(super) port: Option<i64>,
    pub(super) weight: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `cgroup` and `relationships`")]
pub(super) struct App<'a, const CAREFUL: bool = false> {
    #[serde(borrow)]
    pub(super) cgroup: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) relationships: Named<'a, Endpoints<'a>, CAREFUL>,
}

/// What a relationship has: one endpoint, as a table, or a list of them.
#[derive(Debug)]
pub(super) enum Endpoints<'a> {
    One(Relationship<'a>),
    List(Vec<Relationship<'a>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with `service`")]
pub(super) struct Relationship<'a> {
    #[serde(borrow)]
    pub(super) service: Text<'a>,
    #[serde(borrow)]
    pub(super) vip: Option<Text<'a>>,
    pub(super) port: Option<i64>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
    #[serde(rename = "instance-ips")]
    pub(super) instance_ips: Option<bool>,
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

    /// Reads a table twice if anything is wrong: at first without all that only messages need, which is
    /// where in the table the reading is, and then with it.
    pub(super) fn read(self, text: &str) -> Result<Table<'_>, Problem> {
        match self {
            Self::Toml => {
                let problem = |path: &str, error: &toml::de::Error| {
                    let start = error.span().map_or(0, |span| span.start);
                    not_read(path, error.message(), position(text, start))
                };
                let document =
                    || toml::Deserializer::parse(text).map_err(|error| problem("", &error));
                Table::deserialize(document()?).or_else(|error| {
                    Err(match carefully(document()?) {
                        Err(error) => problem(&error.path().to_string(), error.inner()),
                        Ok(()) => problem("", &error),
                    })
                })
            }
            Self::Json => {
                let problem = |path: &str, error: &serde_json::Error| {
                    not_read(path, &error.to_string(), (error.line(), error.column().max(1)))
                };
                serde_json::from_str(text).map_err(|error| {
                    match carefully(&mut serde_json::Deserializer::from_str(text)) {
                        Err(error) => problem(&error.path().to_string(), error.inner()),
                        // It is what follows the table.
                        Ok(()) => problem("", &error),
                    }
                })
            }
        }
    }
}

/// Reads a table for the sake of the error.
fn carefully<'de, D: Deserializer<'de>>(
    document: D,
) -> Result<(), serde_path_to_error::Error<D::Error>> {
    serde_path_to_error::deserialize(document).map(|_: Table<'de, true>| ())
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

/// A table whose text or shape is wrong. What follows cannot be read, so this is the only problem.
pub(super) fn not_read(path: &str, reason: &str, (line, column): (usize, usize)) -> Problem {
    // serde_json repeats the position, toml explains itself on more lines.
    let reason = reason.split(" at line ").next().unwrap_or(reason).replace('\n', ", ");
    // serde's words for what has others in TOML and JSON.
    let words = [
        ("type: sequence", "type: a list"),
        ("type: map", "type: a table"),
        ("type: number", "type: a number"),
        ("a sequence", "a list"),
        ("a map", "a table"),
        ("i64", "a whole number"),
    ];
    let reason = words.iter().fold(reason, |reason, (serde, ours)| reason.replace(serde, ours));
    let reason = without_key(without_value(reason));
    let help = if reason.contains("duplicate") {
        "a key or table can stand only once; merge it with the other"
    } else if reason.contains("overflowed") || reason.contains("out of range") {
        "use a smaller number; in an endpoint, a table in JSON can have any"
    } else if reason.starts_with("unknown field") {
        "correct the key, or remove it"
    } else if reason.starts_with("missing field") {
        "add it"
    } else if reason.starts_with("invalid") && reason.contains("expected") {
        "write what is expected; docs/table.md describes every key"
    } else {
        "the text breaks off being TOML or JSON here; look for a missing quote, bracket or comma"
    };
    // "." and "?" are how the root and what has no name yet are written.
    let path = path.trim_end_matches(['.', '?']);
    // Nor is the key that serde_json makes of a number one that somebody wrote.
    let path = path.strip_suffix(NUMBER).and_then(|path| path.strip_suffix('.')).unwrap_or(path);
    Problem::new(if path.is_empty() { Path::default() } else { Path::keys(&[path]) }, reason, help)
        .at(line, column)
}

/// A reason without the value that it is about: that may be a connection string with its password, or a
/// password of digits, at a place where none belongs.
fn without_value(reason: String) -> String {
    for (kind, expected, what) in [
        ("string \"", "\", expected ", "a string"),
        ("integer `", "`, expected ", "a number"),
        ("floating point `", "`, expected ", "a number"),
        ("boolean `", "`, expected ", "a boolean"),
    ] {
        if let (Some(start), Some(end)) = (reason.find(kind), reason.rfind(expected))
            && start < end
        {
            return format!("{}{what}{}", &reason[..start], &reason[end + 1..]);
        }
    }
    reason
}

/// A reason without the key that it is about, if that looks like a connection string.
fn without_key(reason: String) -> String {
    let (before, after) = ("unknown field `", "`, expected ");
    match (reason.find(before), reason.rfind(after)) {
        (Some(start), Some(end)) if may_be_secret(&reason[start + before.len()..end]) => {
            format!("unknown field{}", &reason[end + 1..])
        }
        _ => reason,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Endpoints<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrList;

        impl<'de> Visitor<'de> for OneOrList {
            type Value = Endpoints<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `service`, or a list of such tables")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoints<'de>, A::Error> {
                Relationship::deserialize(MapAccessDeserializer::new(map)).map(Endpoints::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints<'de>, A::Error> {
                let mut endpoints = Vec::new();
                while let Some(OfList(endpoint)) = list.next_element()? {
                    endpoints.push(endpoint);
                }
                Ok(Endpoints::List(endpoints))
            }
        }

        // Unlike "any", it takes no number for the table that serde_json makes of one.
        deserializer.deserialize_struct("Endpoints", &["service"], OneOrList)
    }
}

/// An element of a list of endpoints, which must be a table. By itself serde would also take a list of
/// the fields.
struct OfList<'a>(Relationship<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for OfList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = OfList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `service`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OfList<'de>, A::Error> {
                Relationship::deserialize(MapAccessDeserializer::new(map)).map(OfList)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Backend<'a> {
    /// By hand, because an untagged enum could only say "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full<'a> {
            #[serde(borrow)]
            ip: Text<'a>,
            port: Option<i64>,
            weight: Option<i64>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Backend<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IPv4 address in quotes, or a table with ip, port and weight")
            }

            fn visit_borrowed_str<E>(self, ip: &'de str) -> Result<Backend<'de>, E> {
                Ok(Backend { ip: ip.into(), port: None, weight: None })
            }

            fn visit_str<E>(self, ip: &str) -> Result<Backend<'de>, E> {
                Ok(Backend { ip: ip.to_owned().into(), port: None, weight: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend<'de>, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map));
                let Full { ip, port, weight } = full.map_err(|error| {
                    if error.to_string().contains(NUMBER) {
                        A::Error::invalid_type(Unexpected::Other("number"), &self)
                    } else {
                        error
                    }
                })?;
                Ok(Backend { ip, port, weight })
            }
        }

        deserializer.deserialize_any(Either)
    }
}
